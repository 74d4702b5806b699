"""One client's connection under the protocol: whole text messages in and out, pings answered, faults closed.

Every step is a method of its own, so that a planted defect can be at any of them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
from typing import Any, Final, cast

from aiohttp import web

from realm_mocks.server.websocket import frames
from realm_mocks.server.websocket.frames import Frame, FrameFault, FrameReader

_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTROL: Final = 8


class Closed(Exception):
    """The connection is over."""


class Wire:
    """Frames over an upgraded connection of aiohttp's."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._reader = FrameReader()
        self._frames: asyncio.Queue[Frame | FrameFault | None] = asyncio.Queue()
        self._parts = b""
        self._opcode = frames.CONTINUATION
        self.closed = False

    # What aiohttp's connection calls, once this is its parser.

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Bytes came."""
        try:
            for frame in self._reader.feed(bytes(data)):
                self._frames.put_nowait(frame)
        except FrameFault as fault:
            self._frames.put_nowait(fault)
        return False, b""

    def feed_eof(self) -> None:
        """No more will come."""
        self._frames.put_nowait(None)

    def set_exception(self, error: BaseException, cause: BaseException | None = None) -> None:
        """The connection is lost."""
        self._frames.put_nowait(None)

    # What the session calls.

    async def open(self) -> web.StreamResponse:
        """Answer the upgrade."""
        key = self._request.headers.get("Sec-WebSocket-Key", "")
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": self.accept(key)}
        response = web.StreamResponse(status=101, headers=headers)
        await response.prepare(self._request)
        response.force_close()
        protocol = cast(Any, self._request.protocol)
        protocol.set_parser(self)
        return response

    def accept(self, key: str) -> str:
        """The proof that the upgrade was understood."""
        return base64.b64encode(hashlib.sha1(key.encode() + _MAGIC).digest()).decode()

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self.frame(frames.TEXT, json.dumps(message, ensure_ascii=False).encode())
        await asyncio.sleep(0)

    def frame(self, opcode: int, payload: bytes) -> None:
        """Send one frame."""
        transport = self._request.transport
        if transport is None or self.closed:
            raise Closed
        transport.write(self.encoded(opcode, payload))

    def encoded(self, opcode: int, payload: bytes) -> bytes:
        """The bytes of a frame."""
        return frames.encode(opcode, payload)

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye and close."""
        if not self.closed:
            self.frame(frames.CLOSE, struct.pack("!H", code) + reason.encode())
            self.closed = True
            if self._request.transport is not None:
                self._request.transport.close()

    async def message(self) -> str:
        """The next text message; Closed once there is none."""
        while True:
            frame = await self._frames.get()
            if frame is None:
                self.closed = True
                raise Closed
            try:
                text = self.take(frame)
            except FrameFault as fault:
                self.close(fault.code, str(fault))
                raise Closed from None
            if text is not None:
                return text

    def take(self, frame: Frame | FrameFault) -> str | None:
        """The message that `frame` completes, if it does; FrameFault for one that may not be."""
        if isinstance(frame, FrameFault):
            raise frame
        self.check(frame)
        if frame.opcode >= _CONTROL:
            self.control(frame)
            return None
        if frame.opcode != frames.CONTINUATION:
            self._opcode = frame.opcode
        self._parts += frame.payload
        if not frame.fin:
            return None
        whole, self._parts = self._parts, b""
        opcode, self._opcode = self._opcode, frames.CONTINUATION
        return self.binary(whole) if opcode == frames.BINARY else self.decoded(whole)

    def check(self, frame: Frame) -> None:
        """What RFC 6455 forbids."""
        if not frame.masked or frame.reserved or frame.opcode not in (0, 1, 2, 8, 9, 10):
            raise FrameFault(1002, "a frame without a mask, with reserved bits or of an unknown kind")
        if frame.opcode >= _CONTROL:
            if not frame.fin or len(frame.payload) > 125:
                raise FrameFault(1002, "a control frame in pieces or too long")
        elif (frame.opcode == frames.CONTINUATION) != (self._opcode != frames.CONTINUATION):
            raise FrameFault(1002, "a frame that does not continue what was begun")
        elif len(self._parts) + len(frame.payload) > frames.MAX_MESSAGE:
            raise FrameFault(1009, "a message that is too long")

    def control(self, frame: Frame) -> None:
        """Answer pings and goodbyes."""
        if frame.opcode == frames.PING:
            self.frame(frames.PONG, frame.payload)
        elif frame.opcode == frames.CLOSE:
            self.close(int.from_bytes(frame.payload[:2], "big") if len(frame.payload) >= 2 else 1000)
            raise Closed

    def decoded(self, payload: bytes) -> str:
        """The text of a message."""
        try:
            return payload.decode("utf-8")
        except UnicodeDecodeError:
            raise FrameFault(1007, "a message that is not UTF-8") from None

    def binary(self, payload: bytes) -> str | None:
        """A message that is none of ours."""
        raise FrameFault(1003, "messages are JSON in text frames")
