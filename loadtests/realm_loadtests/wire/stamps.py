"""Reading from a socket, with the moment at which the bytes were there.

A process that serves many streams comes to a read late whenever many are ready at once, and a stamp that it
takes then holds its own queue. The kernel stamps each segment as it arrives (SO_TIMESTAMPNS, socket(7)); so
where it does, the stamp is the network's and not ours. What is read together has the stamp of its last
segment. Under TLS, and where the kernel gives none, the moment directly after the read has to do.
"""

from __future__ import annotations

import platform
import socket
import struct
import sys
from contextlib import suppress
from time import perf_counter_ns, time_ns
from typing import Any, Final

import gevent.socket
from gevent import get_hub

READ_SIZE: Final = 16 * 1024
# Not in Python's socket module: asm-generic/socket.h, which these machines share.
_SO_TIMESTAMPNS: Final = 35
_HAS_STAMPS: Final = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
_TIMESPEC: Final = struct.Struct("=qq")
_ROOM: Final = 64
_READABLE: Final = 1


class StampedReader:
    """Reads one connected socket; `close` it before the socket."""

    def __init__(self, connection: socket.socket, *, tls: bool) -> None:
        self._socket = connection
        self._stamps = _HAS_STAMPS and not tls
        if self._stamps:
            connection.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        # Inside locust: to wait before reading spares the read that finds nothing, half of all reads.
        patched = isinstance(connection, gevent.socket.socket) and not tls
        self._watcher: Any = get_hub().loop.io(connection.fileno(), _READABLE) if patched else None

    def read(self, *, wait: bool) -> tuple[bytes, int]:
        """The next bytes (empty: closed), and when the last of them arrived (`perf_counter_ns`).

        With `wait` it waits without a time limit of its own, else as long as the socket's timeout lets it.
        Raises OSError.
        """
        if wait and self._watcher is not None:
            get_hub().wait(self._watcher)
        if not self._stamps:
            return self._socket.recv(READ_SIZE), perf_counter_ns()
        data, ancillary, _, _ = self._socket.recvmsg(READ_SIZE, _ROOM)
        if not ancillary:
            return data, perf_counter_ns()
        seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
        # The two clocks are compared at once: however they drift, the age of the stamp is right.
        return data, perf_counter_ns() - max(0, time_ns() - seconds * 1_000_000_000 - nanoseconds)

    def close(self) -> None:
        """Let go of the socket."""
        if self._watcher is not None:
            self._watcher.stop()
            with suppress(AttributeError):
                self._watcher.close()
            self._watcher = None
