"""One client's connection: aiohttp's, with bounds, deadlines and errors in our shape.

A head has to arrive in time, a body likewise (see `body`), an answer has to be taken in time, and an idle
connection ends.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from aiohttp import HttpVersion11, web

from realm_reference.server.errors import ApiError
from realm_reference.server.settings import ServerSettings
from realm_reference.server.websocket.checking import CheckedFrames
from realm_reference.server.wire.heads import MAX_FIELDS, MAX_LINE, Heads, Refused, refusal

log = logging.getLogger(__name__)

LINGER_SECONDS: Final = 1.0
"""How long a refused client may go on sending, so that it reads its refusal and not a reset."""

Answered = Callable[[ApiError], web.Response]
"""Makes the response of a refusal, counted and logged."""


class Keeper(Protocol):
    """Who keeps the connections, as one of them sees it."""

    server: web.Server
    settings: ServerSettings
    answered: Answered

    def busy(self, connection: Connection) -> None:
        """`connection` has a request."""

    def idle(self, connection: Connection) -> None:
        """`connection` has answered all it was asked."""

    def left(self, connection: Connection) -> None:
        """`connection` is closed."""


class Connection(web.RequestHandler):
    """aiohttp's connection, kept within bounds."""

    __slots__ = ("_dropped", "_head_timer", "_heads", "_keeper", "_pending", "frames")

    def __init__(self, keeper: Keeper) -> None:
        settings = keeper.settings
        super().__init__(
            keeper.server,
            loop=asyncio.get_running_loop(),
            logger=log,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=settings.idle_timeout,
            lingering_time=LINGER_SECONDS,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_FIELDS,
            auto_decompress=False,  # see `body`
        )
        self._keeper = keeper
        self._heads = Heads(self._parser)
        self._parser = cast(Any, self._heads)
        self._head_timer: asyncio.TimerHandle | None = None
        self._pending = 0
        self._dropped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer that vanishes or takes nothing is noticed by the kernel, too."""
        super().connection_made(transport)
        if self._dropped:
            self.drop()
        _notice_silence(transport.get_extra_info("socket"), self._keeper.settings.write_timeout)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        self._keeper.left(self)
        self._stop_timer()
        super().connection_lost(exc)

    def drop(self) -> None:
        """Close an idle connection to make room."""
        self._dropped = True
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse, and watch the time that a head takes."""
        before = self._request_count
        super().data_received(data)
        if (begun := self._request_count - before) > 0:
            self._pending += begun
            self._keeper.busy(self)
        if self._heads.head_bytes == 0 or self._heads.broken:
            self._stop_timer()
        elif self._head_timer is None:
            self._head_timer = self._loop.call_later(self._keeper.settings.head_timeout, self._head_late)

    def set_parser(self, parser: Any, data_received_cb: Callable[[], None] | None = None) -> None:
        """From the upgrade to a WebSocket on, frames are read."""
        self.frames = CheckedFrames(parser)
        super().set_parser(cast(Any, self.frames), data_received_cb)

    def _head_late(self) -> None:
        self._head_timer = None
        message = "The request's head did not arrive in time."
        self._heads.give_up(refusal(408, message, "request_timeout"))
        self.data_received(b"")

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is answered where no handler could: our error object, in place of aiohttp's plain text."""
        if request.writer.output_size > 0:
            raise ConnectionError("a response has been begun, so that no error can be sent")
        # aiohttp takes what it cannot parse for HTTP/1.0; a server answers in its own (RFC 9110, 6.2).
        request._version = HttpVersion11
        if isinstance(exc, Refused):
            return self._keeper.answered(exc.error)
        log.error("request failed outside its handler", exc_info=exc)
        return self._keeper.answered(refusal(500, "Internal error.", "internal_error"))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send what is left of a response; a client that does not take it is cut off."""
        if self._heads.unread and resp.keep_alive is False:
            self._heads.abandon()
            self.resume_reading()
        try:
            async with asyncio.timeout(self._keeper.settings.write_timeout):
                finished = await super().finish_response(request, resp, start_time)
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
            return resp, True
        self._pending -= 1
        if self._heads.broken and self._pending <= 0 and self.transport is not None:
            self.transport.write_eof()
            await asyncio.sleep(LINGER_SECONDS)
        elif self._pending <= 0:
            self._keeper.idle(self)
        return finished


def _notice_silence(connection: socket.socket | None, seconds: float) -> None:
    """Where the system can: end a connection whose peer acknowledges nothing, or has no room, for so long."""
    if connection is None or not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(seconds)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, int(seconds / 3)))
