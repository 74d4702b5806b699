"""WebSocket frames as a server writes and reads them (RFC 6455, section 5). Knows no socket."""

from __future__ import annotations

import struct
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

MAX_MESSAGE = 1 << 20


class FrameFault(Exception):
    """A frame for which the connection is closed, with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Frame:
    """One frame, unmasked. `masked` is whether it came with a mask."""

    fin: bool
    reserved: int
    opcode: int
    masked: bool
    payload: bytes


def encode(opcode: int, payload: bytes) -> bytes:
    """A whole frame of a server's: not masked."""
    size = len(payload)
    if size < 126:
        return bytes([0x80 | opcode, size]) + payload
    if size < 65536:
        return bytes([0x80 | opcode, 126]) + struct.pack("!H", size) + payload
    return bytes([0x80 | opcode, 127]) + struct.pack("!Q", size) + payload


class FrameReader:
    """Cuts a client's bytes in frames."""

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        self._max_message = max_message
        self._data = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now; FrameFault for one that is longer than a message may be."""
        self._data += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        data = self._data
        if len(data) < 2:
            return None
        size, at = data[1] & 0x7F, 2
        if size > 125:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
            if len(data) < at:
                return None
        if size > self._max_message:
            raise FrameFault(1009, f"a frame of {size} bytes")
        masked = bool(data[1] & 0x80)
        end = at + 4 * masked + size
        if len(data) < end:
            return None
        key, payload = (data[at : at + 4], data[at + 4 : end]) if masked else (b"\0\0\0\0", data[at:end])
        self._data = data[end:]
        plain = bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
        return Frame(bool(data[0] & 0x80), data[0] >> 4 & 7, data[0] & 15, masked, plain)
