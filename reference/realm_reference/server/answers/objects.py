"""OpenAI's answer objects: chat and text completions, their chunks, usage."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from realm_reference.model.tokenizer import Tokenizer
from realm_reference.server.answers.calls import Call
from realm_reference.server.answers.logprobs import ScoredToken, chat_logprobs, completion_logprobs
from realm_reference.server.answers.turn import Piece

Json = dict[str, Any]

_TEXT: Final = "text_completion"


@dataclass(frozen=True)
class Usage:
    """Token counts of one request, over all of its choices."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens

    def json(self) -> Json:
        """As it goes over the wire."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }


@dataclass(frozen=True)
class _TextAnswer:
    """What all objects of one answer share: model, fingerprint, creation time (Unix seconds)."""

    model: str
    fingerprint: str
    tokenizer: Tokenizer
    include_usage: bool = False
    created: int = field(default_factory=lambda: int(time.time()))

    def _object(self, id: str, kind: str, choices: list[Json]) -> Json:
        return {
            "id": id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        }

    def _with_usage(self, chunk: Json, usage: Usage | None = None) -> Json:
        # With include_usage every chunk has the key, null until the last; without it no chunk has.
        return {**chunk, "usage": usage.json() if usage else None} if self.include_usage else chunk


@dataclass(frozen=True)
class ChatAnswer(_TextAnswer):
    """The objects of a chat completion."""

    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(16)}")

    def begin(self, index: int) -> Json | None:
        """The first chunk of a choice has the role."""
        return self._chunk([self._choice(index, {"role": "assistant", "content": ""}, None)])

    def piece(self, index: int, piece: Piece) -> Json:
        """A chunk of a choice's message."""
        return self._chunk([self._choice(index, _delta(piece) or {"content": ""}, None, piece)])

    def finish(self, index: int, reason: str | None, last: Piece) -> Json:
        """The chunk with a choice's one finish reason, and what was left for the end."""
        return self._chunk([self._choice(index, _delta(last), reason, last)])

    def usage(self, usage: Usage) -> Json:
        """The last chunk, for a client that asked for usage."""
        return self._chunk([], usage)

    def whole(self, choices: Sequence[tuple[Piece, str | None]], usage: Usage) -> Json:
        """The one object of an answer that is not streamed."""
        listed = [
            {
                "index": index,
                "message": _message(message),
                "logprobs": self._logprobs(message.scored),
                "finish_reason": reason,
            }
            for index, (message, reason) in enumerate(choices)
        ]
        return {**self._object(self.id, "chat.completion", listed), "usage": usage.json()}

    def _chunk(self, choices: list[Json], usage: Usage | None = None) -> Json:
        return self._with_usage(self._object(self.id, "chat.completion.chunk", choices), usage)

    def _choice(self, index: int, delta: Json, reason: str | None, piece: Piece | None = None) -> Json:
        # In a stream only chunks that bring some have logprobs; in a whole answer an empty list says "none".
        logprobs = self._logprobs(piece.scored or None) if piece else None
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, scored: list[ScoredToken] | None) -> Json | None:
        return None if scored is None else chat_logprobs(scored, self.tokenizer)


@dataclass(frozen=True)
class CompletionAnswer(_TextAnswer):
    """The objects of a text completion; its chunks look like the whole."""

    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(16)}")

    def begin(self, index: int) -> Json | None:
        """Text has no role."""
        return None

    def piece(self, index: int, piece: Piece) -> Json:
        """A chunk of a choice's text."""
        return self.finish(index, None, piece)

    def finish(self, index: int, reason: str | None, last: Piece) -> Json:
        """The chunk with a choice's one finish reason, and what was left for the end."""
        scored = Piece(last.text, last.scored or None)
        return self._with_usage(self._object(self.id, _TEXT, [self._choice(index, scored, reason)]))

    def usage(self, usage: Usage) -> Json:
        """The last chunk, for a client that asked for usage."""
        return self._with_usage(self._object(self.id, _TEXT, []), usage)

    def whole(self, choices: Sequence[tuple[Piece, str | None]], usage: Usage) -> Json:
        """The one object of an answer that is not streamed."""
        listed = [self._choice(index, text, reason) for index, (text, reason) in enumerate(choices)]
        return {**self._object(self.id, _TEXT, listed), "usage": usage.json()}

    def _choice(self, index: int, piece: Piece, reason: str | None) -> Json:
        scored = piece.scored
        return {
            "index": index,
            "text": piece.text,
            "logprobs": None if scored is None else completion_logprobs(scored, self.tokenizer),
            "finish_reason": reason,
        }


def _message(whole: Piece) -> Json:
    """The assistant's message; one that only calls functions says nothing."""
    content = whole.text if whole.text or not whole.calls else None
    message: Json = {"role": "assistant", "content": content, "refusal": None}
    return {**message, "tool_calls": [_call(call) for call in whole.calls]} if whole.calls else message


def _delta(piece: Piece) -> Json:
    text = {"content": piece.text} if piece.text else {}
    calls = [{"index": call.index, **_call(call)} for call in piece.calls]
    return {**text, "tool_calls": calls} if calls else text


def _call(call: Call) -> Json:
    if call.name is None:
        return {"function": {"arguments": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
