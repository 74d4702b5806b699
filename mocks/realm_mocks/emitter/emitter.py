"""The emitter's loop: sockets, deadlines, and the clock, and no library between them.

A heap holds the next deadline of each stream. Until shortly before it the thread waits, with a finer clock
than a selector's milliseconds; then it polls. A thread that polled all the time would hold a core that the
measured client, and whatever else runs, would have to do without.
"""

from __future__ import annotations

import heapq
import json
import select
import selectors
import socket
import time
from contextlib import suppress
from typing import Any, Final

from realm_mocks.emitter.arrival import receive, stamp_arrivals
from realm_mocks.emitter.stream import MODEL, Stream
from realm_mocks.server.records import RequestRecord
from realm_mocks.server.schedule import Schedule

_NEAR_NS: Final = 60_000
_IDLE_SECONDS: Final = 0.05
_READ_SIZE: Final = 65536
_MAX_REQUEST: Final = 1 << 20


class _Peer:
    """One connection: bytes that came and are no whole request yet, and bytes that could not be sent yet."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = b""
        self.unsent = b""
        self.stream: Stream | None = None


class Emitter:
    """Listens on a loopback port; `run` serves until `stop` is called, on the caller's thread.

    `records` are those of `MockServer`: what was due when, and when it was handed to the socket. They are
    also at `/mock/records`. Raises OSError if the port is taken.
    """

    def __init__(self, schedule: Schedule, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.schedule = schedule
        self.records: list[RequestRecord] = []
        self._listener = socket.create_server((host, port), backlog=1024)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._due: list[tuple[int, int, _Peer]] = []
        self._stopped = False

    @property
    def url(self) -> str:
        """The base URL."""
        host, port = self._listener.getsockname()[:2]
        return f"http://{host}:{port}"

    def stop(self) -> None:
        """Let `run` return soon; thread-safe."""
        self._stopped = True

    def run(self) -> None:
        """Serve until stopped."""
        while not self._stopped:
            # The selector can itself be selected, and `select` counts in microseconds.
            select.select([self._selector], [], [], self._wait_seconds())
            for key, events in self._selector.select(0):
                if key.data is None:
                    self._accept()
                    continue
                if events & selectors.EVENT_WRITE:
                    self._flush(key.data)
                if events & selectors.EVENT_READ:
                    self._read(key.data)
            self._send_due()
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]

    def _wait_seconds(self) -> float:
        if not self._due:
            return _IDLE_SECONDS
        left = self._due[0][0] - time.perf_counter_ns()
        return min(_IDLE_SECONDS, (left - _NEAR_NS) / 1e9) if left > _NEAR_NS else 0.0

    def _send_due(self) -> None:
        """Send what is due by now; every event is a write of its own, stamped when the kernel has it."""
        now = time.perf_counter_ns()
        while self._due and self._due[0][0] <= now:
            _, number, peer = heapq.heappop(self._due)
            stream = peer.stream
            if stream is None or peer.connection.fileno() < 0:
                continue
            self._write(peer, stream.next_bytes())
            now = time.perf_counter_ns()
            stream.record.sent_ns.append(now)
            if stream.done:
                stream.record.finished_ns, stream.record.outcome = now, "completed"
                peer.stream = None
            else:
                heapq.heappush(self._due, (stream.next_due_ns, number, peer))

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            while True:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                stamp_arrivals(connection)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(connection, selectors.EVENT_READ, _Peer(connection))

    def _read(self, peer: _Peer) -> None:
        try:
            data, arrived = receive(peer.connection, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data, arrived = b"", 0
        if not data or len(peer.received) > _MAX_REQUEST:
            self._close(peer)
            return
        peer.received += data
        head, separator, rest = peer.received.partition(b"\r\n\r\n")
        length = _content_length(head)
        if separator and len(rest) >= length and peer.stream is None:
            peer.received = rest[length:]
            self._answer(peer, head, rest[:length], arrived)

    def _answer(self, peer: _Peer, head: bytes, body: bytes, arrived: int) -> None:
        line = head.partition(b"\r\n")[0]
        if line.startswith(b"POST ") and b"/chat/completions" in line:
            self._begin(peer, body, arrived)
        elif b"/mock/records" in line:
            self._reply(peer, [record.as_json() for record in self.records])
        else:
            self._reply(peer, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def _begin(self, peer: _Peer, body: bytes, arrived: int) -> None:
        with_usage = b'"include_usage":true' in body.replace(b" ", b"")
        number = len(self.records)
        peer.stream = Stream(number, self.schedule.of(number), arrived, with_usage=with_usage)
        self.records.append(peer.stream.record)
        self._write(peer, peer.stream.opening)
        heapq.heappush(self._due, (peer.stream.next_due_ns, number, peer))

    def _reply(self, peer: _Peer, document: Any) -> None:
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._write(peer, head.encode() + body)

    def _write(self, peer: _Peer, data: bytes) -> None:
        """Hand bytes to the kernel; what it does not take waits, in order, until it does."""
        if not peer.unsent:
            try:
                data = data[peer.connection.send(data) :]
            except BlockingIOError:
                pass
            except OSError:
                self._close(peer)
                return
        if data:
            peer.unsent += data
            self._selector.modify(peer.connection, selectors.EVENT_READ | selectors.EVENT_WRITE, peer)

    def _flush(self, peer: _Peer) -> None:
        data, peer.unsent = peer.unsent, b""
        self._selector.modify(peer.connection, selectors.EVENT_READ, peer)
        self._write(peer, data)

    def _close(self, peer: _Peer) -> None:
        if peer.stream is not None:
            peer.stream.record.outcome, peer.stream = "disconnected", None
        with suppress(KeyError, ValueError):
            self._selector.unregister(peer.connection)
        peer.connection.close()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return 0
