"""A strict HTTP/1.1 client on a raw socket: it sees every byte, and remembers when each read brought what.

SDKs hide what a conformance suite must see: a missing `[DONE]`, bytes after it, characters cut between
events, a body that ends without its terminating chunk. So this client has no SDK under it: a socket, h11 for
the grammar of HTTP, and a log of both directions.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType

import h11

from realm_harness.exchange import Address, Ending, Exchange, Sent, Timeouts, Unreachable
from realm_harness.wirelog import WireLog

MAX_BODY = 16 * 2**20
"""An answer longer than this is cut: no chat answer of a test is."""

READ_SIZE = 65536


class Connection:
    """One TCP (or TLS) connection, a context manager; `call` works again while it is kept alive."""

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

    def call_bytes(self, request: Sent) -> Call:
        """Send the bytes in `request.raw` as they are; the call's reply is still to be read."""
        self._bytes_of(replace(request, headers=(), body=b""))  # so that a reply is expected
        exchange = Exchange(request, time.perf_counter_ns())
        try:
            self._send(request.raw, 1, 0.0)
        except OSError as error:  # a server may answer and close before it has read everything
            exchange.detail = f"while sending: {error.strerror or error}"
        return Call(self, exchange)

    def send_bytes(self, raw: bytes) -> None:
        """Send these bytes; nothing is read."""
        if raw:
            self._send(raw, 1, 0.0)

    def more(self, seconds: float) -> bytes:
        """What comes behind the reply that was read, for at most so long; b"" when there is nothing."""
        rest, closed = self._http.trailing_data
        deadline = time.monotonic() + seconds
        try:
            while not closed and not rest:
                rest = self.receive(deadline)
                closed = not rest
        except OSError:  # a timeout is one, too
            pass
        if rest:
            self.log.add(self.tag, "<", rest)
        return rest

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
    def reusable(self) -> bool:
        """Whether the reply that was read leaves the connection open for another request."""
        return self._http.their_state is h11.DONE and self._http.our_state is h11.DONE

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
        self._read_ns = 0  # when the latest bytes came
        self._framed = True  # the reply says where its body ends
        self._closed = False  # the server has closed the connection

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
                self._end(Ending.CUT if self._closed else Ending.MALFORMED, str(error))
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
        self._closed = not data
        self.connection.log.add(self.connection.tag, "<", data or b"(connection closed)")
        self.connection.http.receive_data(data)

    def _note_head(self, head: h11.Response) -> None:
        self.exchange.status = head.status_code
        self.exchange.version = head.http_version.decode()
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
