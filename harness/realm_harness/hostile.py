"""Requests that no HTTP client would send, and what a server may make of them."""

from __future__ import annotations

from contextlib import suppress

from realm_harness.answers import shown
from realm_harness.case import demand
from realm_harness.exchange import Ending, Exchange
from realm_harness.prompts import HELLO
from realm_harness.target import CHAT, MODELS, Target, encode
from realm_harness.wire import Connection

HONEST_500S = (501, 505)
"""Not implemented, version not supported: a statement about the request, not about the server's health."""


def head(
    target: Target,
    *fields: bytes,
    method: str = "POST",
    path: str = CHAT,
    version: str = "1.1",
    host: bool = True,
) -> bytes:
    """A request's head, with the usual headers before `fields`, up to and with the blank line."""
    lines = [f"{method} {target.address.prefix}{path} HTTP/{version}".encode("latin-1")]
    if host:
        lines.append(f"Host: {target.address.netloc}".encode())
    if target.api_key:
        lines.append(f"Authorization: Bearer {target.api_key}".encode())
    if method == "POST":
        lines.append(b"Content-Type: application/json")
    return b"\r\n".join([*lines, *fields, b"", b""])


def question(target: Target) -> bytes:
    """The body of a plain chat request."""
    return encode(target.body(HELLO, 4))


def length(body: bytes) -> bytes:
    """The header with a body's length."""
    return b"Content-Length: %d" % len(body)


def chunked(body: bytes) -> bytes:
    """A body in two chunks."""
    half = len(body) // 2
    pieces = (body[:half], body[half:], b"")
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def unharmed(target: Target, exchange: Exchange, what: str) -> None:
    """Broken if the request got a server error, or neither answer nor end, or nothing is served after it."""
    demand(exchange.ending is not Ending.TIMEOUT, f"{what} got no answer, and the connection stays open")
    status = exchange.status or 0
    said = shown(exchange.body.decode("utf-8", "replace"))
    demand(
        status < 500 or status in HONEST_500S,
        f"{what} got {status}, a server error, which clients take for the server's fault and retry: {said}",
    )
    last = target.last
    served = target.get(MODELS).status
    target.last = last
    demand(served == 200, f"after {what}, GET {MODELS} gets {served}")


def turned_down(target: Target, exchange: Exchange, what: str) -> None:
    """Broken unless the request was refused with a 4xx, or its connection closed without an answer."""
    unharmed(target, exchange, what)
    status = exchange.status
    said = shown(exchange.body.decode("utf-8", "replace"))
    demand(
        status is None or status >= 400,
        f"{what} was answered with {status} in place of a refusal: {said}",
    )


def say(target: Target, raw: bytes, what: str) -> Exchange:
    """Send bytes that have to be turned down."""
    exchange = target.send_bytes(raw)
    turned_down(target, exchange, what)
    return exchange


class Crowd:
    """Connections that are held open while something is tried; a context manager."""

    def __init__(self, target: Target, count: int, raw: bytes) -> None:
        self._target = target
        self._raw = raw
        self._count = count
        self._held: list[Connection] = []

    def __enter__(self) -> Crowd:
        for _ in range(self._count):
            connection = self._target.connect()
            self._held.append(connection)
            with suppress(OSError):  # a server that refuses the crowd may do so
                connection.send_bytes(self._raw)
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._held:
            connection.close()
