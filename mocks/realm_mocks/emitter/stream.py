"""One stream of the emitter: its bytes, from a mould that all share, and when each event was due and sent."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final, NamedTuple

from realm_mocks.server.records import RequestRecord
from realm_mocks.server.schedule import Schedule

MODEL: Final = "emitter-1"
TEXT: Final = " token"
_ID: Final = "chatcmpl-%08d"  # of one length always, so that a chunk's size is known beforehand
_ID_IN_MOULD: Final = "chatcmpl-########"
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Cache-Control: no-store\r\n\r\n"
)
_LAST_CHUNK: Final = b"0\r\n\r\n"


class _Mould(NamedTuple):
    """The bytes of a stream, with a place for its id."""

    opening: bytes
    token: bytes
    closing: bytes


class Stream:
    """The events of one answer. The first goes with the head and names the role, then come the tokens, then,
    with the last of them, the finish, the usage if it was asked for, and [DONE].

    To begin a stream takes microseconds: sixty-four may begin at once, and those that run must not wait.
    """

    def __init__(self, number: int, schedule: Schedule, arrived_ns: int, *, with_usage: bool) -> None:
        self.record = RequestRecord(_ID % number, True, arrived_ns)
        count = schedule.tokens or 1
        self.record.due_ns = [arrived_ns + round(offset * 1e9) for offset in schedule.offsets(count)]
        name, place = self.record.id.encode(), _ID_IN_MOULD.encode()
        mould = _mould(count, with_usage)
        self.opening = mould.opening.replace(place, name)
        self._token = mould.token.replace(place, name)
        self.closing = mould.closing.replace(place, name)

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


@cache
def _mould(count: int, with_usage: bool) -> _Mould:
    """The bytes of all streams of `count` tokens."""
    closing = _event({}, "stop")
    if with_usage:
        usage = {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": 1 + count}
        closing += _framed({**_common(), "choices": [], "usage": usage})
    return _Mould(
        _HEAD + _event({"role": "assistant", "content": ""}),
        _event({"content": TEXT}),
        closing + _chunk(b"data: [DONE]\n\n") + _LAST_CHUNK,
    )


def _common() -> dict[str, Any]:
    return {"id": _ID_IN_MOULD, "object": "chat.completion.chunk", "created": 0, "model": MODEL}


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _framed({**_common(), "choices": [choice]})


def _framed(document: dict[str, Any]) -> bytes:
    return _chunk(b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
