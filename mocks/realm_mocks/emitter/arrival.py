"""When bytes arrived, by the kernel's stamp (SO_TIMESTAMPNS, socket(7)).

Written anew and not shared with the load generator's reader: the truth must not come from what it judges.
"""

from __future__ import annotations

import platform
import socket
import struct
import sys
import time
from typing import Final

_SO_TIMESTAMPNS: Final = 35
_KNOWN: Final = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")


def stamp_arrivals(connection: socket.socket) -> None:
    """Let the kernel stamp what arrives on a connection, where it can."""
    if _KNOWN:
        connection.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def receive(connection: socket.socket, size: int) -> tuple[bytes, int]:
    """Bytes that are there, and when they arrived (`perf_counter_ns`); without the kernel's stamp, now.

    Raises OSError as `recvmsg` does.
    """
    data, ancillary, _, _ = connection.recvmsg(size, 64)
    wall, now = time.time_ns(), time.perf_counter_ns()
    if not ancillary:
        return data, now
    seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2])
    return data, now - max(0, wall - seconds * 1_000_000_000 - nanoseconds)
