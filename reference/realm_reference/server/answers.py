"""OpenAI's answer objects: chat completion, its chunks, usage."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from realm_reference.server.turn import Piece

Json = dict[str, Any]


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
class ChatAnswer:
    """What all objects of one answer share: id, creation time (Unix seconds), model, fingerprint."""

    model: str
    fingerprint: str
    include_usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(16)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def role(self, index: int) -> Json:
        """The first chunk of a choice."""
        return self._chunk([_choice(index, {"role": "assistant", "content": ""}, None)])

    def piece(self, index: int, piece: Piece) -> Json:
        """A chunk of a choice's message."""
        return self._chunk([_choice(index, {"content": piece.text}, None, piece)])

    def finish(self, index: int, reason: str | None, last: Piece) -> Json:
        """The chunk with a choice's one finish reason, and what was left for the end."""
        return self._chunk([_choice(index, {}, reason, last)])

    def usage(self, usage: Usage) -> Json:
        """The last chunk, for a client that asked for usage."""
        return {**self._chunk([]), "usage": usage.json()}

    def whole(self, choices: Sequence[tuple[Piece, str | None]], usage: Usage) -> Json:
        """The one object of an answer that is not streamed."""
        return {
            **self._head("chat.completion"),
            "choices": [
                {
                    "index": index,
                    "message": {"role": "assistant", "content": message.text, "refusal": None},
                    "logprobs": _logprobs(message.logprobs),
                    "finish_reason": reason,
                }
                for index, (message, reason) in enumerate(choices)
            ],
            "usage": usage.json(),
        }

    def _chunk(self, choices: list[Json]) -> Json:
        chunk: Json = {**self._head("chat.completion.chunk"), "choices": choices}
        # With include_usage every chunk has the key, null until the last; without it no chunk has.
        return {**chunk, "usage": None} if self.include_usage else chunk

    def _head(self, kind: str) -> Json:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def _choice(index: int, delta: Json, finish_reason: str | None, piece: Piece | None = None) -> Json:
    # In a stream only chunks that bring some have logprobs; in a whole answer an empty list says "none came".
    logprobs = _logprobs(piece.logprobs or None) if piece else None
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _logprobs(content: list[Json] | None) -> Json | None:
    return None if content is None else {"content": content, "refusal": None}
