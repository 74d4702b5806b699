"""One client's WebSocket: whole text messages in, bounded writes out, and the right code at its end."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from aiohttp import WSCloseCode, WSMsgType, web

from realm_reference.server.websocket.protocol import Json, dump
from realm_reference.server.wire.sse import SlowReader

_CLOSE_SECONDS: Final = 2.0
"""How long a client may take to say goodbye."""


class Socket:
    """The connection under the protocol. aiohttp closes it with 1002, 1007 or 1009 where a frame is at fault
    and answers pings; the rest is here.
    """

    def __init__(self, *, write_timeout: float, heartbeat: float, max_message_bytes: int) -> None:
        self._write_timeout = write_timeout
        # No compression: a token's message is too short to gain by it, and a bomb needs it.
        self._response = web.WebSocketResponse(
            timeout=_CLOSE_SECONDS, heartbeat=heartbeat, max_msg_size=max_message_bytes, compress=False
        )
        self._request: web.Request | None = None

    async def open(self, request: web.Request) -> web.WebSocketResponse:
        """Answer the upgrade."""
        await self._response.prepare(request)
        self._request = request
        return self._response

    def allow(self, payload_bytes: int | None) -> None:
        """How much the client may send from now on, in all; None is any number of whole messages."""
        assert self._request is not None  # since it is open
        cast(Any, self._request.protocol).frames.allowance = payload_bytes

    async def receive(self, timeout: float) -> str | None:
        """The next text message; None once the connection is closed. TimeoutError when none comes in time."""
        message = await self._response.receive(timeout)
        if message.type is WSMsgType.TEXT:
            return str(message.data)
        if message.type is WSMsgType.BINARY:
            await self.close(WSCloseCode.UNSUPPORTED_DATA, "messages are JSON in text frames")
        return None

    async def send(self, message: Json) -> None:
        """Send a message, waiting while the bounded buffer is full; SlowReader after the timeout."""
        try:
            async with asyncio.timeout(self._write_timeout):
                await self._response.send_str(dump(message))
        except TimeoutError:
            self.abort()
            raise SlowReader from None

    async def close(self, code: int, reason: str) -> None:
        """Say why it ends (at most 123 bytes of it, RFC 6455 section 5.5) and end it."""
        try:
            async with asyncio.timeout(self._write_timeout):
                await self._response.close(code=code, message=reason.encode()[:123])
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Cut the connection: what has not been taken by now is not sent any more."""
        if self._request is not None and (transport := self._request.transport) is not None:
            transport.abort()
