"""The scripted model: an answer is a pure function of the messages, the sampling parameters and the seed.

It speaks in words of its own and in words of the prompt, so that an answer betrays whose prompt it came
from. Tokens are bytes: words are cut every few bytes, without regard for characters, because that is what
byte-level BPE does to emoji and CJK.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice
from typing import Any

from realm_mocks.server.forms import example
from realm_mocks.server.request import ChatRequest, content_text
from realm_mocks.server.steering import steered
from realm_mocks.server.tools import call_of, chosen

VOCABULARY = (
    " the",
    " a",
    " of",
    " and",
    " river",
    " lantern",
    " quiet",
    " seventeen",
    " 42",
    " 1999",
    " 3.14",
    ",",
    ".",
    "\n",
    "  ",
    " naïve",
    " façade",
    " Straße",
    " 🙂",
    " 🎉🚀",
    " 日本語",
    " 東京",
    " привет",
    " مرحبا",
    " window",
    " because",
    " slowly",
    " orchard",
    " between",
    " telescope",
    " (and",
    " again)",
    " copper",
    " don't",
    " half-open",
    " 👩‍👩‍👧",
)

TOKEN_BYTES = 4
"""Longer words are cut in tokens of this many bytes."""

SHORTEST, SPREAD = 24, 40
"""An answer has SHORTEST .. SHORTEST + SPREAD - 1 tokens unless the schedule says how many."""

NEARLY_GREEDY = 0.05
"""A nucleus this small holds one token, so that sampling from it is greedy."""


def tokenize(text: str) -> list[bytes]:
    """Cut a text into tokens: a word with the space before it, in pieces of at most TOKEN_BYTES bytes."""
    tokens: list[bytes] = []
    for index, word in enumerate(text.split(" ")):
        raw = (word if index == 0 else f" {word}").encode("utf-8", "surrogatepass")
        tokens.extend(raw[start : start + TOKEN_BYTES] for start in range(0, len(raw), TOKEN_BYTES))
    return tokens


def count_prompt_tokens(request: ChatRequest) -> int:
    """Tokens of the prompt: each message's, and three of the chat template for each message."""
    return sum(len(tokenize(content_text(message.get("content")))) + 3 for message in request.messages)


def answer_tokens(request: ChatRequest, choice: int, draw: int, length: int | None = None) -> list[bytes]:
    """The tokens that the model would say if nothing stopped it.

    Args:
        request: the checked request.
        choice: index of the choice, for n > 1.
        draw: a fresh number, used in place of the seed when the request has none.
        length: exact number of tokens; None lets the model end by itself.
    """
    key = _key(request, choice, draw)
    if request.schema is not None:
        return tokenize(example(request.schema, lambda index, choices: _pick(key, index, choices)))
    count = SHORTEST + _pick(key, -1, SPREAD) if length is None else length
    return list(islice(steered(request, _speak(key, _own_words(request))), count))


def tool_call(request: ChatRequest, choice: int, draw: int) -> dict[str, Any] | None:
    """The function that the model calls in place of an answer, if it does."""
    function = chosen(request.tools, request.tool_choice, request.messages)
    if function is None:
        return None
    key = _key(request, choice, draw)
    return call_of(function, lambda index, choices: _pick(key, index, choices))


def _key(request: ChatRequest, choice: int, draw: int) -> bytes:
    """The answer's identity: greedy answers depend on the messages and the adapter alone."""
    parts: list[object] = [request.messages]
    if request.adapter:
        parts.append(["adapter", request.adapter])
    if request.presence_penalty or request.frequency_penalty:
        parts.append([request.presence_penalty, request.frequency_penalty])
    if request.temperature > 0 and request.top_p > NEARLY_GREEDY:
        parts += [choice, ("draw", draw) if request.seed is None else ("seed", request.seed)]
    return blake2b(json.dumps(parts).encode(), digest_size=16).digest()


def _pick(key: bytes, index: int, choices: int) -> int:
    """A counter-based generator: number `index` of the sequence that belongs to `key`."""
    digest = blake2b(key + index.to_bytes(8, "little", signed=True), digest_size=8).digest()
    return int.from_bytes(digest, "little") % choices


def _own_words(request: ChatRequest) -> list[str]:
    """The words of the last message, which the answer repeats in order."""
    last = content_text(request.messages[-1].get("content")) if request.messages else ""
    return last.split()


def _speak(key: bytes, words: list[str]) -> Iterator[bytes]:
    """Endless tokens: every other word is, by chance, the prompt's next one."""
    said = 0
    index = 0
    while True:
        if words and _pick(key, 2 * index, 2):
            word = " " + words[said % len(words)]
            said += 1
        else:
            word = VOCABULARY[_pick(key, 2 * index + 1, len(VOCABULARY))]
        index += 1
        raw = (word if index > 1 else word.lstrip() or "So").encode("utf-8", "surrogatepass")
        for start in range(0, len(raw), TOKEN_BYTES):
            yield raw[start : start + TOKEN_BYTES]
