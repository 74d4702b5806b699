"""One WebSocket connection of a case: upgraded by the strict HTTP client, then frame by frame."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from dataclasses import replace
from types import TracebackType

import h11

from realm_harness.case import Broken
from realm_harness.exchange import Ending, Exchange, Sent
from realm_harness.websocket.frames import Frame, FrameParser, Opcode, frame
from realm_harness.wire import Connection

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""

NO_MASK = b"\0\0\0\0"
"""The key of frames in a command that shows a case again: with it they can be read."""


class SocketClosed(Exception):
    """The server ended the connection; `code` is that of its close frame, None when there was none."""

    def __init__(self, code: int | None, how: str) -> None:
        super().__init__(how)
        self.code = code


class SwitchingConnection(Connection):
    """A connection that may leave HTTP behind."""

    def switch(self, request: Sent) -> tuple[Exchange, bytes | None]:
        """Send an upgrade: its exchange, and what came behind the 101; None when that did not come."""
        call = self.call(request)
        exchange, deadline = call.exchange, time.monotonic() + self.timeouts.silence
        try:
            while (event := self.http.next_event()) is h11.NEED_DATA:
                self.http.receive_data(self.read(deadline))
        except (h11.RemoteProtocolError, OSError) as error:
            exchange.ending = Ending.TIMEOUT if isinstance(error, TimeoutError) else Ending.MALFORMED
            exchange.detail = str(error)
            return exchange, None
        if not isinstance(event, h11.InformationalResponse | h11.Response):
            exchange.ending = Ending.CUT
            return exchange, None
        exchange.status = event.status_code
        exchange.headers = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in event.headers
        )
        return exchange, self.http.trailing_data[0] if exchange.status == 101 else None

    def read(self, deadline: float) -> bytes:
        """The next bytes, noted in the log; as `receive`."""
        data = self.receive(deadline)
        self.log.add(self.tag, "<", data or b"(connection closed)")
        return data

    def write(self, raw: bytes, shown: str) -> None:
        """Send bytes; the log has `shown` in their place, because masked bytes tell a reader nothing."""
        self.log.add(self.tag, ">", shown.encode("utf-8", "backslashreplace"))
        self._socket.settimeout(self.timeouts.silence)
        self._socket.sendall(raw)


class WebSocket:
    """The connection once it is upgraded; a context manager."""

    def __init__(self, connection: SwitchingConnection, exchange: Exchange, key: bytes) -> None:
        self.exchange = exchange
        self.accepted = exchange.header("sec-websocket-accept") == _accept(key)
        self.answers_pings = True
        self._connection = connection
        self._parser = FrameParser()
        self._frames: list[Frame] = []
        self._parts: list[bytes] = []

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    @property
    def faults(self) -> list[str]:
        """What the server's frames had that RFC 6455 forbids."""
        return self._parser.faults

    def leave(self) -> None:
        """Close the TCP connection without a word."""
        if self.exchange.ending is Ending.OPEN:
            self.exchange.ending = Ending.LEFT
        self._connection.close()

    def send(self, text: str) -> None:
        """Send a text message in one frame."""
        self.send_frame(Opcode.TEXT, text.encode("utf-8", "surrogatepass"))

    def send_frame(
        self,
        opcode: int,
        payload: bytes = b"",
        *,
        fin: bool = True,
        reserved: int = 0,
        masked: bool = True,
        announced: int | None = None,
    ) -> None:
        """Send a frame with whatever is wrong with it; see `frame`. Nothing is raised when the server is gone
        already: what it said before can still be read.
        """

        def made(key: bytes) -> bytes:
            return frame(opcode, payload, key, fin=fin, reserved=reserved, masked=masked, announced=announced)

        sent = self.exchange.request
        self.exchange.request = replace(sent, raw=sent.raw + made(NO_MASK))
        plain = opcode == Opcode.TEXT and fin and not reserved and masked and announced is None
        faults = (
            f"(opcode {opcode}, fin {fin:d}, reserved {reserved}, masked {masked:d}, length {announced}) "
        )
        shown = payload.decode("utf-8", "backslashreplace")
        try:
            self._connection.write(made(os.urandom(4)), shown if plain else faults + shown)
        except OSError as error:
            self.exchange.detail = f"while sending: {error.strerror or error}"

    def feed(self, data: bytes) -> None:
        """Bytes came, with the reply to the upgrade or after it."""
        self._frames += self._parser.feed(data, time.perf_counter_ns())

    def next_frame(self, seconds: float | None = None) -> Frame:
        """The next frame; TimeoutError when none comes in `seconds` (else the target's silence).

        Raises SocketClosed when the TCP connection ends before.
        """
        wait = self._connection.timeouts.silence if seconds is None else seconds
        deadline = time.monotonic() + wait
        while not self._frames:
            try:
                data = self._connection.read(deadline)
            except TimeoutError:
                raise
            except OSError as error:
                self.exchange.ending = Ending.RESET
                raise SocketClosed(None, f"the connection was reset ({error.strerror})") from None
            if not data:
                self.exchange.ending = Ending.CUT
                raise SocketClosed(None, "the connection was closed without a close frame")
            self.feed(data)
        return self._frames.pop(0)

    def message(self, seconds: float | None = None) -> tuple[int, str]:
        """(time, text) of the next message; pings are answered on the way.

        Raises TimeoutError, SocketClosed at a close frame, and Broken for what is no text.
        """
        while True:
            got = self.next_frame(seconds)
            if got.opcode == Opcode.CLOSE:
                self.exchange.ending = Ending.COMPLETE
                raise SocketClosed(got.close_code, f"the server closed the connection with {got.close_code}")
            if got.opcode == Opcode.PING and self.answers_pings:
                self.send_frame(Opcode.PONG, got.payload)
            elif got.opcode == Opcode.BINARY:
                raise Broken("the server sent a binary message; the protocol is JSON in text frames")
            elif got.opcode in (Opcode.TEXT, Opcode.CONTINUATION):
                self._parts.append(got.payload)
                if got.fin:
                    whole, self._parts = b"".join(self._parts), []
                    return got.t_ns, _decoded(whole)

    def closed(self, seconds: float) -> int | None:
        """Read on until the server closes, and the code of its close frame; None when it closes without.

        TimeoutError when it does not within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.message(max(0.0, deadline - time.monotonic()))
            except SocketClosed as closed:
                return closed.code


def upgrade(connection: SwitchingConnection, request: Sent) -> WebSocket | Exchange:
    """Ask for the upgrade: the WebSocket, or the exchange with a server that has none."""
    key = base64.b64encode(os.urandom(16))
    headers = (
        *request.headers,
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key.decode()),
    )
    exchange, rest = connection.switch(replace(request, headers=headers))
    lines = [f"GET {request.path} HTTP/1.1", f"Host: {connection.address.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers]
    exchange.request = replace(exchange.request, raw="\r\n".join([*lines, "", ""]).encode())
    if rest is None:
        return exchange
    socket = WebSocket(connection, exchange, key)
    socket.feed(rest)
    return socket


def _accept(key: bytes) -> str:
    return base64.b64encode(hashlib.sha1(key + MAGIC, usedforsecurity=False).digest()).decode()


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Broken(f"the server sent a text message that is not UTF-8 ({error.reason})") from None
