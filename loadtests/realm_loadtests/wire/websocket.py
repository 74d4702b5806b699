"""One call of Realm's WebSocket protocol (`generate`, streamed), measured as a streamed chat completion is.

The frames are wsproto's; the socket, and so the stamps directly after each read, are ours. A connection is
kept between calls, and carries one at a time. What breaks has the same names as over HTTP (`failures.py`).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from time import perf_counter_ns, sleep
from typing import Any, Final
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from realm_loadtests.wire.answer import error_message
from realm_loadtests.wire.connection import Connection, Target
from realm_loadtests.wire.exchange import HungUp, Timing
from realm_loadtests.wire.failures import ExchangeFailure

SCHEMES: Final = ("ws", "wss")
_BROKEN: Final = (1002, 1007)  # what the frames' library itself closes with: no RFC 6455, no UTF-8
_CODES: Final = {
    "UNAUTHORIZED": 401,
    "RATE_LIMIT_EXCEEDED": 429,
    "DISPATCH_ERROR": 400,
    "SERVICE_UNAVAILABLE": 503,
    "TIMEOUT": 504,
}
"""Errors of the protocol -> the status that HTTP has for them; any other is 500."""


def is_websocket(url: str) -> bool:
    """Whether a URL names a WebSocket."""
    return urlsplit(url).scheme in SCHEMES


class Dialogue:
    """A connection after its welcome. Opened by `ensure_open`, closed after any failure.

    `timeout_s` bounds its whole life; None leaves that to a timer of the caller's.
    """

    def __init__(self, url: str, api_key: str | None, *, timeout_s: float | None = None) -> None:
        parts = urlsplit(url)
        http = parts._replace(scheme="https" if parts.scheme == "wss" else "http")
        self._target = Target.parse(http.geturl())
        self._path = parts.path or "/"
        self._key = api_key
        self._socket = Connection(self._target)
        self._ids = itertools.count(1)
        self._frames: WSConnection | None = None
        self._now = 0
        self._deadline = None if timeout_s is None else perf_counter_ns() + int(timeout_s * 1e9)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
        self._frames = None

    def ensure_open(self) -> int:
        """Connect, show the key if one is asked for, and wait for the welcome, unless that was done before.

        Returns the nanoseconds that it took. Raises ExchangeFailure.
        """
        if self._frames is not None:
            return 0
        begin = self._socket.ensure_open(self._deadline)
        self._frames = WSConnection(ConnectionType.CLIENT)
        sent = self._send(Request(host=self._target.authority, target=self._path))
        while (message := self._receive()).get("status") != "connected":
            kind = message.get("type")
            if kind == "auth_required":
                self._send(TextMessage(json.dumps({"type": "auth", "api_key": self._key or ""})))
            elif kind != "auth_success":
                raise ExchangeFailure("http_401", error_message(message.get("error", message)))
        return begin + self._now - sent

    def call(self, function: str, params: dict[str, Any]) -> tuple[int, Iterator[tuple[dict[str, Any], int]]]:
        """Call a function; the moment before the call left, and its replies with the moment of each."""
        call_id = f"load-{next(self._ids)}"
        sent = self._send(TextMessage(json.dumps({"id": call_id, "function": function, "params": params})))
        return sent, self._replies(call_id)

    def _replies(self, call_id: str) -> Iterator[tuple[dict[str, Any], int]]:
        while True:
            reply = self._receive()
            if reply.get("id") != call_id:
                raise ExchangeFailure("foreign_chunk", f"a reply to {reply.get('id')!r:.60} in {call_id}")
            if reply.get("status") == "error":
                error = reply.get("error") or {}
                status = _CODES.get(str(error.get("code")), 500) if isinstance(error, dict) else 500
                raise ExchangeFailure(f"http_{status}", error_message(error))
            yield reply, self._now
            if reply.get("status") != "streaming":
                return

    def _send(self, event: Event) -> int:
        assert self._frames is not None
        return self._socket.send(self._frames.send(event), self._deadline)

    def _receive(self) -> dict[str, Any]:
        """The next message; `_now` is when its last byte was there."""
        assert self._frames is not None
        text = ""
        while True:
            for event in self._frames.events():
                if isinstance(event, TextMessage):
                    text += event.data
                    if event.message_finished:
                        return _parsed(text)
                elif isinstance(event, Ping):
                    self._send(event.response())
                elif isinstance(event, RejectConnection):
                    raise ExchangeFailure(f"http_{event.status_code}", "the upgrade was refused")
                elif isinstance(event, CloseConnection):
                    broken = event.code in _BROKEN
                    raise ExchangeFailure(
                        "malformed_http" if broken else "connection_closed",
                        f"closed with {event.code}: {event.reason or ''}",
                    )
                elif not isinstance(event, AcceptConnection):
                    raise ExchangeFailure("malformed_event", f"a {type(event).__name__} instead of a text")
            data, self._now = self._socket.receive(self._deadline, self._now)
            try:
                self._frames.receive_data(data or None)
            except ProtocolError as error:
                raise ExchangeFailure("malformed_http", f"not a WebSocket: {error}") from error


def stream_generate(
    dialogue: Dialogue,
    body: dict[str, Any],
    timing: Timing,
    *,
    cancel_after: int | None = None,
    read_pause_s: float = 0.0,
) -> None:
    """Ask what a chat request `body` asks, over the WebSocket, into `timing`; as `exchange.stream_chat`.

    The messages' texts are put together, because the protocol has one prompt. Raises ExchangeFailure and
    HungUp; the connection is then closed.
    """
    timing.sent = timing.ended = perf_counter_ns()
    kept = False
    try:
        timing.connect = dialogue.ensure_open()
        timing.sent, replies = dialogue.call("generate", _params(body))
        for reply, now in replies:
            timing.ended, timing.status = now, 200
            data = reply.get("data")
            if not isinstance(data, dict):
                raise ExchangeFailure("malformed_event", "a reply without data")
            if reply["status"] == "streaming":
                _take(data, now, timing)
            else:
                _finish(reply, data, timing)
            heard = len(timing.answer.token_times)
            if cancel_after is not None and heard >= cancel_after and not timing.answer.done:
                raise HungUp
            if read_pause_s:
                sleep(read_pause_s)
        kept = True
    except ExchangeFailure:
        timing.ended = perf_counter_ns()
        raise
    finally:
        if not kept:
            dialogue.close()


def _params(body: dict[str, Any]) -> dict[str, Any]:
    """Realm's own parameters and no others: any server that speaks the protocol takes them."""
    prompt = "\n\n".join(str(turn["content"]) for turn in body["messages"])
    given = {name: body[name] for name in ("model", "max_tokens") if body.get(name)}
    return {"prompt": prompt, "stream": True, **given}


def _take(data: dict[str, Any], now: int, timing: Timing) -> None:
    if data.get("text"):
        timing.answer.token_times.append(now)
        timing.answer.texts.append(str(data["text"]))


def _finish(reply: dict[str, Any], data: dict[str, Any], timing: Timing) -> None:
    if reply.get("status") != "complete":
        raise ExchangeFailure("no_finish_reason", f"the call ended as {reply.get('status')!r:.40}")
    answer = timing.answer
    if data.get("text") != "".join(answer.texts):
        raise ExchangeFailure("malformed_event", "the whole text is not what was streamed")
    answer.done, answer.finish_reason = True, data.get("finish_reason")
    answer.completion_tokens, answer.prompt_tokens = data.get("tokens_generated"), data.get("prompt_tokens")
    answer.response_id = str(reply.get("id"))


def _parsed(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ExchangeFailure("malformed_event", f"not JSON: {text[:80]!r}") from error
    if not isinstance(message, dict):
        raise ExchangeFailure("malformed_event", f"not an object: {text[:80]!r}")
    return message
