"""A user's line to the server: a kept connection that carries one request after the other."""

from __future__ import annotations

import json
from typing import Protocol

from realm_loadtests.scenarios import Ask
from realm_loadtests.wire.connection import Connection, Target, build_request
from realm_loadtests.wire.exchange import Timing, stream_chat
from realm_loadtests.wire.websocket import Dialogue, is_websocket, stream_generate

PATH = "/chat/completions"


class Line(Protocol):
    """Opened by its first request, and again after a failure."""

    def ask(self, ask: Ask, timing: Timing) -> None:
        """Send a request and read its whole answer into `timing`. Raises ExchangeFailure, and HungUp."""

    def close(self) -> None:
        """Hang up."""


def line_to(url: str, api_key: str | None) -> Line:
    """A line to the API at `url`: over HTTP, or for ws:// and wss:// over Realm's WebSocket."""
    return WebSocketLine(url, api_key) if is_websocket(url) else HttpLine(url, api_key)


class HttpLine:
    """Chat completions over HTTP/1.1 and SSE."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._target = Target.parse(url)
        self._key = api_key
        self._connection = Connection(self._target)

    def ask(self, ask: Ask, timing: Timing) -> None:
        """One POST."""
        body = json.dumps(ask.body).encode()
        request = build_request(self._target, "POST", PATH, body=body, api_key=self._key)
        stream_chat(
            self._connection,
            request,
            timing,
            timeout=None,
            cancel_after=ask.cancel_after,
            read_pause_s=ask.read_pause_s,
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class WebSocketLine:
    """Calls of `generate`."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._dialogue = Dialogue(url, api_key)

    def ask(self, ask: Ask, timing: Timing) -> None:
        """One call."""
        stream_generate(
            self._dialogue,
            ask.body,
            timing,
            cancel_after=ask.cancel_after,
            read_pause_s=ask.read_pause_s,
        )

    def close(self) -> None:
        """Close the connection."""
        self._dialogue.close()
