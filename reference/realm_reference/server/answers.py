"""OpenAI's answer objects: chat completion, its chunks, usage."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from realm_reference.orchestration import FinishReason

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

    def content(self, index: int, text: str) -> Json:
        """A chunk of a choice's text."""
        return self._chunk([_choice(index, {"content": text}, None)])

    def finish(self, index: int, reason: FinishReason) -> Json:
        """The chunk with a choice's one finish reason."""
        return self._chunk([_choice(index, {}, reason.value)])

    def usage(self, usage: Usage) -> Json:
        """The last chunk, for a client that asked for usage."""
        return {**self._chunk([]), "usage": usage.json()}

    def whole(self, choices: Sequence[tuple[str, FinishReason]], usage: Usage) -> Json:
        """The one object of an answer that is not streamed."""
        return {
            **self._head("chat.completion"),
            "choices": [
                {
                    "index": index,
                    "message": {"role": "assistant", "content": text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": reason.value,
                }
                for index, (text, reason) in enumerate(choices)
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


def _choice(index: int, delta: Json, finish_reason: str | None) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
