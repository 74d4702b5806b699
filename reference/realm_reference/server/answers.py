"""OpenAI's answer objects: chat completion, its chunks, usage."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from realm_reference.orchestration import Finished

Json = dict[str, Any]


def usage(finished: Finished) -> Json:
    """Token counts of one request."""
    return {
        "prompt_tokens": finished.prompt_tokens,
        "completion_tokens": finished.completion_tokens,
        "total_tokens": finished.prompt_tokens + finished.completion_tokens,
    }


@dataclass(frozen=True)
class ChatAnswer:
    """What all objects of one answer share: id, creation time (Unix seconds), model, fingerprint."""

    model: str
    fingerprint: str
    include_usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(16)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def role(self) -> Json:
        """The first chunk."""
        return self._chunk([_choice({"role": "assistant", "content": ""}, None)])

    def content(self, text: str) -> Json:
        """A chunk of text."""
        return self._chunk([_choice({"content": text}, None)])

    def finish(self, finished: Finished) -> Json:
        """The chunk with the one finish reason."""
        return self._chunk([_choice({}, finished.reason.value)])

    def usage(self, finished: Finished) -> Json:
        """The last chunk, for a client that asked for usage."""
        return {**self._chunk([]), "usage": usage(finished)}

    def whole(self, text: str, finished: Finished) -> Json:
        """The one object of an answer that is not streamed."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finished.reason.value}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage(finished)}

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


def _choice(delta: Json, finish_reason: str | None) -> Json:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
