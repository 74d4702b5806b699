"""Frames, written with any fault one likes and read with none forgiven (RFC 6455, section 5).

It shares no line with the MockServer's frames: what both got wrong nobody would see.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum


class Opcode(IntEnum):
    """What a frame carries."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True)
class Frame:
    """One frame as it was read; `t_ns` is when its last byte came."""

    opcode: int
    payload: bytes
    fin: bool
    t_ns: int

    @property
    def close_code(self) -> int | None:
        """The code of a close frame; None when it has none."""
        return struct.unpack("!H", self.payload[:2])[0] if len(self.payload) >= 2 else None


def frame(
    opcode: int,
    payload: bytes,
    key: bytes,
    *,
    fin: bool = True,
    reserved: int = 0,
    masked: bool = True,
    announced: int | None = None,
) -> bytes:
    """The bytes of a frame as a client sends it, masked with `key` (four bytes).

    `announced` is the length that its head claims, where that is not the payload's.
    """
    size = len(payload) if announced is None else announced
    head = bytearray([fin << 7 | reserved << 4 | opcode])
    flag = masked << 7
    if size < 126:
        head.append(flag | size)
    elif size < 1 << 16:
        head += struct.pack("!BH", flag | 126, size)
    else:
        head += struct.pack("!BQ", flag | 127, size)
    if not masked:
        return bytes(head) + payload
    return bytes(head) + key + apply_mask(key, payload)


def apply_mask(key: bytes, payload: bytes) -> bytes:
    """`payload` masked, or unmasked, with a key of four bytes."""
    stream = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(payload), "big")


class FrameParser:
    """Cuts a server's bytes in frames and notes what a server may not send."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._data = bytearray()

    def feed(self, data: bytes, t_ns: int) -> list[Frame]:
        """The frames that are complete with `data`."""
        self._data += data
        found = []
        while (size := self._size()) is not None and len(self._data) >= size[0] + size[1]:
            found.append(self._cut(*size, t_ns))
        return found

    def _size(self) -> tuple[int, int] | None:
        """Bytes of the next frame's head and payload, once they are known."""
        if len(self._data) < 2:
            return None
        short, masked = self._data[1] & 0x7F, self._data[1] >> 7
        extended = {126: 2, 127: 8}.get(short, 0)
        if len(self._data) < 2 + extended:
            return None
        payload = int.from_bytes(self._data[2 : 2 + extended], "big") if extended else short
        if (extended == 2 and payload < 126) or (extended == 8 and payload < 1 << 16):
            self._note("a length in more bytes than it needs")
        return 2 + extended + 4 * masked, payload

    def _cut(self, head: int, payload: int, t_ns: int) -> Frame:
        first, second = self._data[0], self._data[1]
        opcode, fin = first & 0x0F, bool(first & 0x80)
        body = bytes(self._data[head : head + payload])
        if second & 0x80:
            self._note("a masked frame, which only clients send")
            body = apply_mask(bytes(self._data[head - 4 : head]), body)
        if first & 0x70:
            self._note("reserved bits, though no extension was agreed")
        if opcode not in tuple(Opcode):
            self._note(f"a frame with the unknown opcode {opcode}")
        if opcode >= Opcode.CLOSE and (not fin or payload > 125):
            self._note("a control frame in pieces, or of more than 125 bytes")
        del self._data[: head + payload]
        return Frame(opcode, body, fin, t_ns)

    def _note(self, fault: str) -> None:
        if fault not in self.faults:
            self.faults.append(fault)
