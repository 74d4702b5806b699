"""One stream of the emitter: its bytes, made once, and when each event was due and sent."""

from __future__ import annotations

import json
from typing import Any, Final

from realm_mocks.server.records import RequestRecord
from realm_mocks.server.schedule import Schedule

MODEL: Final = "emitter-1"
TEXT: Final = " token"
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Cache-Control: no-store\r\n\r\n"
)
_LAST_CHUNK: Final = b"0\r\n\r\n"


class Stream:
    """The events of one answer. The first goes with the head and names the role, then come the tokens, then,
    with the last of them, the finish, the usage if it was asked for, and [DONE].
    """

    def __init__(self, number: int, schedule: Schedule, arrived_ns: int, *, with_usage: bool) -> None:
        self.record = RequestRecord(f"chatcmpl-{number}", True, arrived_ns)
        count = schedule.tokens or 1
        self.record.due_ns = [arrived_ns + round(offset * 1e9) for offset in schedule.offsets(count)]
        self._token = self._event({"content": TEXT})
        self.opening = _HEAD + self._event({"role": "assistant", "content": ""})
        self.closing = self._event({}, "stop")
        if with_usage:
            usage = {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": 1 + count}
            self.closing += _framed({**self._common(), "choices": [], "usage": usage})
        self.closing += _chunk(b"data: [DONE]\n\n") + _LAST_CHUNK

    @property
    def next_due_ns(self) -> int:
        """When the next token is due."""
        return self.record.due_ns[len(self.record.sent_ns)]

    @property
    def done(self) -> bool:
        """Whether every token has been sent."""
        return len(self.record.sent_ns) == len(self.record.due_ns)

    def next_bytes(self) -> bytes:
        """The next token's event; with the last one all that closes the stream."""
        is_last = len(self.record.sent_ns) + 1 == len(self.record.due_ns)
        return self._token + self.closing if is_last else self._token

    def _common(self) -> dict[str, Any]:
        return {"id": self.record.id, "object": "chat.completion.chunk", "created": 0, "model": MODEL}

    def _event(self, delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _framed({**self._common(), "choices": [choice]})


def _framed(document: dict[str, Any]) -> bytes:
    return _chunk(b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
