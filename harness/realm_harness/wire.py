"""A strict HTTP/1.1 client on a raw socket: it sees every byte, and remembers when each read brought what.

SDKs hide what a conformance suite must see: a missing `[DONE]`, bytes after it, characters cut between events,
a body that ends without its terminating chunk. So this client has no SDK under it: a socket, h11 for the
grammar of HTTP, and a log of both directions.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from urllib.parse import urlsplit

import h11

from realm_harness.wirelog import WireLog

MAX_BODY = 16 * 2**20
"""An answer longer than this is cut: no chat answer of a test is."""

READ_SIZE = 65536


class Ending(StrEnum):
    """How an exchange ended, seen from the socket."""

    COMPLETE = "complete"  # the body ended where its framing says
    CLOSED = "closed"  # the body has no framing; the server closed the connection
    CUT = "cut"  # the server closed the connection before the body's end
    RESET = "reset"  # the server reset the connection
    TIMEOUT = "timeout"  # nothing came for too long
    ENDLESS = "endless"  # bytes came, but no end
    MALFORMED = "malformed"  # what came is not HTTP/1.1
    LEFT = "left"  # this client closed the connection, on purpose
    OPEN = "open"  # not ended yet


@dataclass(frozen=True)
class Timeouts:
    """Seconds that the client waits: to connect, for the next byte, for the whole exchange."""

    connect: float = 10.0
    silence: float = 60.0
    total: float = 300.0


@dataclass(frozen=True)
class Sent:
    """The request of an exchange, as sent."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass
class Exchange:
    """One request and what came back. Times are `time.perf_counter_ns()`.

    Attributes:
        status: HTTP status, None when no reply came.
        headers: (lower-case name, value) pairs of the reply.
        segments: (time, bytes) of each piece of the body, as read.
        ending: how it ended; `detail` says more where there is more to say.
    """

    request: Sent
    sent_ns: int = 0
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    segments: list[tuple[int, bytes]] = field(default_factory=list)
    ending: Ending = Ending.OPEN
    detail: str = ""
    ended_ns: int = 0

    @property
    def body(self) -> bytes:
        """The body so far."""
        return b"".join(data for _, data in self.segments)

    def header(self, name: str) -> str | None:
        """The first reply header of that name, or None."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    @property
    def media_type(self) -> str:
        """The reply's media type without parameters, lower-case; "" when there is none."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()


class Unreachable(Exception):
    """No connection could be made; the message is one line for a person."""


@dataclass(frozen=True)
class Address:
    """Where a server's API lives: `prefix` is what stands before `/v1`."""

    scheme: str
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a base URL, with or without `/v1`; ValueError says what is wrong with it."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"'{url}' is not a server's URL; give one such as http://localhost:8080")
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise ValueError(f"'{url}' has a bad port; give one such as http://localhost:8080") from None
        path = parts.path.rstrip("/")
        return cls(parts.scheme, parts.hostname, port, path.removesuffix("/v1"))

    @property
    def netloc(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == (443 if self.scheme == "https" else 80)
        return host if usual else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL, without `/v1`."""
        return f"{self.scheme}://{self.netloc}{self.prefix}"


class Connection:
    """One TCP (or TLS) connection. Use as a context manager; `call` may be used again while it is kept alive."""

    def __init__(self, address: Address, timeouts: Timeouts, log: WireLog) -> None:
        self.address = address
        self.timeouts = timeouts
        self.log = log
        self.tag = log.next_tag()
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=256 * 1024)
        try:
            self._socket = self._connect()
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise Unreachable(f"cannot connect to {address.url}: {reason}") from error

    def _connect(self) -> socket.socket:
        raw = socket.create_connection((self.address.host, self.address.port), self.timeouts.connect)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.address.scheme == "https":
            return ssl.create_default_context().wrap_socket(raw, server_hostname=self.address.host)
        return raw

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection now."""
        self._socket.close()

    def call(self, request: Sent, pieces: int = 1, pause: float = 0.01) -> Call:
        """Send a request and return the call, whose reply is still to be read.

        Args:
            request: what to send; Host and Content-Length are added.
            pieces: in how many segments the bytes leave.
            pause: seconds between two segments.
        """
        raw = self._bytes_of(request)
        exchange = Exchange(request, time.perf_counter_ns())
        try:
            self._send(raw, pieces, pause)
        except OSError as error:  # a server may answer and close before it has read everything
            exchange.detail = f"while sending: {error.strerror or error}"
        return Call(self, exchange)

    def send_half(self, request: Sent) -> None:
        """Send a request's head and half of its body, as a client on a bad network does."""
        raw = self._bytes_of(request)
        self._send(raw[: len(raw) - len(request.body) // 2], 1, 0.0)

    def _bytes_of(self, request: Sent) -> bytes:
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        headers = [("Host", self.address.netloc), *request.headers]
        if request.body or request.method == "POST":
            headers.append(("Content-Length", str(len(request.body))))
        head = h11.Request(method=request.method, target=request.path, headers=headers)
        raw = self._http.send(head) or b""
        if request.body:
            raw += self._http.send(h11.Data(data=request.body)) or b""
        return raw + (self._http.send(h11.EndOfMessage()) or b"")

    def _send(self, raw: bytes, pieces: int, pause: float) -> None:
        self.log.add(
            self.tag, ">", raw
        )  # in one entry, so that a key cannot be cut in two and escape blotting
        size = -(-len(raw) // pieces)
        for start in range(0, len(raw), size):
            if start:
                time.sleep(pause)
            self._socket.sendall(raw[start : start + size])

    def receive(self, deadline: float) -> bytes:
        """The next bytes, b"" at the connection's end; TimeoutError after the silence or at the deadline."""
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("deadline")
        self._socket.settimeout(min(self.timeouts.silence, remaining))
        return self._socket.recv(READ_SIZE)

    @property
    def http(self) -> h11.Connection:
        """The connection's HTTP state."""
        return self._http


class Call:
    """A request on its way: read its reply with `read`, or piece by piece with `segments`."""

    def __init__(self, connection: Connection, exchange: Exchange) -> None:
        self.connection = connection
        self.exchange = exchange
        self._deadline = time.monotonic() + connection.timeouts.total

    def read(self) -> Exchange:
        """Read to the end, however it ends."""
        for _ in self.segments():
            pass
        return self.exchange

    def leave(self) -> Exchange:
        """Close the connection in the middle, as a client that loses interest does."""
        if self.exchange.ending is Ending.OPEN:
            self._end(Ending.LEFT)
        self.connection.close()
        return self.exchange

    def segments(self) -> Iterator[tuple[int, bytes]]:
        """(time, bytes) of each piece of the body, as they come. Never raises: see `exchange.ending`."""
        size = 0
        while self.exchange.ending is Ending.OPEN:
            try:
                event = self.connection.http.next_event()
            except h11.RemoteProtocolError as error:
                cut = "closed" in str(error) or "incomplete" in str(error)
                self._end(Ending.CUT if cut else Ending.MALFORMED, str(error))
                return
            if event is h11.NEED_DATA:
                self._receive()
            elif isinstance(event, h11.Response):
                self._note_head(event)
            elif isinstance(event, h11.Data):
                segment = (self._read_ns, bytes(event.data))
                self.exchange.segments.append(segment)
                size += len(segment[1])
                yield segment
                if size > MAX_BODY:
                    self._end(Ending.ENDLESS, f"more than {MAX_BODY} bytes")
            elif isinstance(event, h11.EndOfMessage):
                self._end(Ending.COMPLETE if self._framed else Ending.CLOSED)
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                self._end(Ending.CUT, "the connection was closed before a reply")

    _read_ns = 0
    _framed = True

    def _receive(self) -> None:
        try:
            data = self.connection.receive(self._deadline)
        except TimeoutError:
            late = time.monotonic() >= self._deadline
            self._end(Ending.ENDLESS if late and self.exchange.segments else Ending.TIMEOUT)
            return
        except ConnectionError as error:
            self._end(Ending.RESET, str(error))
            return
        except OSError as error:
            self._end(Ending.CUT, str(error))
            return
        self._read_ns = time.perf_counter_ns()
        self.connection.log.add(self.connection.tag, "<", data or b"(connection closed)")
        self.connection.http.receive_data(data)

    def _note_head(self, head: h11.Response) -> None:
        self.exchange.status = head.status_code
        self.exchange.headers = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in head.headers
        )
        names = {name for name, _ in self.exchange.headers}
        self._framed = bool(names & {"content-length", "transfer-encoding"}) or head.status_code in (204, 304)

    def _end(self, ending: Ending, detail: str = "") -> None:
        self.exchange.ending = ending
        self.exchange.ended_ns = time.perf_counter_ns()
        if detail:
            self.exchange.detail = detail
        if ending is not Ending.COMPLETE:
            self.connection.log.add(self.connection.tag, ".", f"({ending}) {detail}".encode())


def curl(address: Address, request: Sent, secret_headers: Sequence[str] = ("authorization",)) -> str:
    """A command line that sends the same request; secrets become `$REALM_API_KEY`."""
    words = ["curl", "-i", "-N"]
    if request.method != ("POST" if request.body else "GET"):
        words += ["-X", request.method]
    for name, value in request.headers:
        if name.lower() in secret_headers:
            words += ["-H", f'"{name}: Bearer $REALM_API_KEY"']
        elif name.lower() == "content-type":
            words += ["-H", _quoted(f"{name}: {value}")]
    if request.body:
        words += ["--data-binary", _quoted(_clip(request.body.decode("utf-8", "backslashreplace")))]
    origin = f"{address.scheme}://{address.netloc}"
    return " ".join([*words, _quoted(origin + request.path)])


def _clip(text: str, limit: int = 2000) -> str:
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
