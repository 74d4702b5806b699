"""The log probabilities of an answer's tokens, handed out with the text that they stand for.

A guest holds text back while it may become a stop string or half a character. A token's entry goes out with
the first of its characters, so that no entry tells what a stop string has cut off.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from realm_reference.model.tokenizer import Tokenizer
from realm_reference.orchestration import FinishReason, PromptScored, Token
from realm_reference.orchestration.logprobs import TokenLogprobs

Json = dict[str, Any]


@dataclass(frozen=True)
class ScoredToken:
    """A token with its log probabilities; `offset` is the number of the answer's characters before it. The
    first token of all has none.
    """

    token: int
    scores: TokenLogprobs | None
    offset: int


class ScoreKeeper:
    """Keeps each token's scores back until its text is out."""

    def __init__(self, tokenizer: Tokenizer, offset: int = 0) -> None:
        """`offset` characters come before the first token."""
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting: deque[ScoredToken] = deque()
        self._decoded = offset
        self._handed_out = offset
        self._stop_token = False

    def push(self, token: Token) -> list[ScoredToken]:
        """Take the next token of the answer; returns what its text lets go."""
        if token.counted and token.token_id is not None and token.scores is not None:
            self._waiting.append(ScoredToken(token.token_id, token.scores, self._decoded))
            self._decoded += len(self._decoder.decode(self._tokenizer.decode([token.token_id])))
        self._stop_token |= not token.counted
        self._handed_out += len(token.text)
        ready = []
        while self._waiting and self._waiting[0].offset < self._handed_out:
            ready.append(self._waiting.popleft())
        return ready

    def end(self, reason: FinishReason) -> list[ScoredToken]:
        """What is left: tokens without a text of their own. Behind a stop string nothing is left to tell."""
        cut = reason is FinishReason.STOP and not self._stop_token
        return [] if cut else list(self._waiting)


def scored_prompt(event: PromptScored, tokenizer: Tokenizer) -> list[ScoredToken]:
    """The prompt's tokens. A BOS that the host has put before the text is one of them, without characters."""
    decoder, offset, scored = codecs.getincrementaldecoder("utf-8")("replace"), 0, []
    for token, scores in zip(event.tokens, event.scores, strict=True):
        scored.append(ScoredToken(token, scores, offset))
        added = tokenizer.adds_bos and len(scored) == 1 and token == tokenizer.bos_id
        offset += 0 if added else len(decoder.decode(tokenizer.token_bytes(token)))
    return scored


def completion_logprobs(scored: Iterable[ScoredToken], tokenizer: Tokenizer) -> Json:
    """The older shape: four lists, one entry a token. The alternatives hold the token itself too."""

    def name(token: int) -> str:
        raw = tokenizer.token_bytes(token)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:  # part of a character; OpenAI writes it so
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    listed = list(scored)
    return {
        "tokens": [name(one.token) for one in listed],
        "token_logprobs": [one.scores.logprob if one.scores else None for one in listed],
        "top_logprobs": [
            {name(token): logprob for token, logprob in [*one.scores.top, (one.token, one.scores.logprob)]}
            if one.scores
            else None
            for one in listed
        ],
        "text_offset": [one.offset for one in listed],
    }


def chat_logprobs(scored: Iterable[ScoredToken], tokenizer: Tokenizer) -> Json:
    """The newer shape: an entry a token."""
    content = [
        {
            **_entry(one.token, one.scores.logprob, tokenizer),
            "top_logprobs": [_entry(token, logprob, tokenizer) for token, logprob in one.scores.top],
        }
        for one in scored
        if one.scores is not None
    ]
    return {"content": content, "refusal": None}


def _entry(token: int, logprob: float, tokenizer: Tokenizer) -> Json:
    """`bytes` are what the token adds to the text; null for a control token, which adds its name to none."""
    raw = tokenizer.token_bytes(token)
    shown = None if tokenizer.is_special(token) else list(raw)
    return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": shown}
