"""One request and its whole response, over a connection.

`stream_chat` is the instrument: it takes the stamps from which every figure is made. `fetch` is the plain way
for what is not measured (the list of models).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from time import perf_counter_ns, sleep

from realm_loadtests.wire.answer import Answer, error_message
from realm_loadtests.wire.connection import Connection
from realm_loadtests.wire.failures import ExchangeFailure
from realm_loadtests.wire.http1 import ResponseHead, ResponseReader
from realm_loadtests.wire.sse import EventReader

MAX_ERROR_BODY = 64 * 1024


@dataclass
class Timing:
    """Stamps of one exchange (`perf_counter_ns`); filled in as it goes, so that a failed one has them too.

    `sent`: before the first byte of the request was sent. `ended`: the last read, or the failure.
    """

    sent: int = 0
    ended: int = 0
    connect: int = 0
    status: int | None = None
    answer: Answer = field(default_factory=Answer)


class HungUp(Exception):
    """The client closed the connection on purpose, after the token events that it wanted."""


def stream_chat(
    connection: Connection,
    request: bytes,
    timing: Timing,
    *,
    timeout: float | None,
    cancel_after: int | None = None,
    read_pause_s: float = 0.0,
) -> None:
    """Send a streaming request and read its stream into `timing`.

    After `cancel_after` token events it hangs up (`HungUp`); after each read it pauses for `read_pause_s`.
    `timeout` bounds the whole exchange in seconds, connecting included; None leaves that to a timer of the
    caller's. Raises `ExchangeFailure`; the connection is then closed, as it also is if the server does not
    keep it alive.
    """
    timing.sent = timing.ended = begin = perf_counter_ns()
    deadline = None if timeout is None else begin + int(timeout * 1e9)
    kept = False
    try:
        timing.connect = connection.ensure_open(deadline)
        timing.sent = connection.send(request, deadline)
        kept = _read_stream(connection, timing, deadline, cancel_after, read_pause_s)
    except ExchangeFailure:
        timing.ended = perf_counter_ns()
        raise
    finally:
        # Also when the greenlet is killed half way: the server must see the request end.
        if not kept:
            connection.close()


def _read_stream(
    connection: Connection,
    timing: Timing,
    deadline: int | None,
    cancel_after: int | None,
    read_pause_s: float,
) -> bool:
    """Read until the response is complete; return whether the connection may be used again."""
    reader, events, answer = ResponseReader(), EventReader(), timing.answer
    now = timing.sent
    while not reader.complete:
        data, now = connection.receive(deadline, now)
        if not data:
            if answer.done:
                break  # everything was said; how the connection ends is the conformance chapters' subject
            reader.end_of_input()
            break
        body = reader.feed(data)
        if timing.status is None:
            if reader.head is None:
                continue
            timing.status = reader.head.status
            _require_stream(connection, reader, body, deadline)
        for event in events.feed(body):
            answer.take(event, now)
            timing.ended = now
        if cancel_after is not None and len(answer.token_times) >= cancel_after and not answer.done:
            raise HungUp
        if read_pause_s:
            sleep(read_pause_s)
    answer.close()
    return reader.complete and reader.head is not None and reader.head.keep_alive and not reader.surplus


def _require_stream(
    connection: Connection, reader: ResponseReader, body: bytes, deadline: int | None
) -> None:
    """Raise unless the response is an event stream; the server's own sentence goes into the failure."""
    head = reader.head
    assert head is not None
    content_type = head.headers.get("content-type", "")
    if head.status == 200 and content_type.lower().startswith("text/event-stream"):
        if head.headers.get("content-encoding", "identity") != "identity":
            raise ExchangeFailure("not_sse", "compressed, though only identity was accepted")
        return
    sentence = _error_sentence(_read_rest(connection, reader, body, deadline))
    if head.status == 200:
        raise ExchangeFailure("not_sse", f"content-type {content_type!r}: {sentence}")
    raise ExchangeFailure(f"http_{head.status}", sentence)


def fetch(connection: Connection, request: bytes, *, timeout: float) -> tuple[ResponseHead, bytes]:
    """Send a request and read its whole response (at most `MAX_ERROR_BODY` bytes of it); then close."""
    deadline = perf_counter_ns() + int(timeout * 1e9)
    try:
        connection.ensure_open(deadline)
        connection.send(request, deadline)
        reader = ResponseReader()
        body = _read_rest(connection, reader, b"", deadline)
        if reader.head is None:
            reader.end_of_input()
        assert reader.head is not None
        return reader.head, body
    finally:
        connection.close()


def _read_rest(connection: Connection, reader: ResponseReader, body: bytes, deadline: int | None) -> bytes:
    now = perf_counter_ns()
    while not reader.complete and len(body) < MAX_ERROR_BODY:
        data, now = connection.receive(deadline, now)
        if not data:
            break  # half an error body still says more than none
        body += reader.feed(data)
    return body


def _error_sentence(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    try:
        return error_message(json.loads(text))
    except (ValueError, RecursionError):
        return " ".join(text.split())[:200] or "an empty body"
