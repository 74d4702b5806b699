"""The connections of the MockServer: aiohttp's, with doors for defects below HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from aiohttp import HttpVersion11, http_exceptions, web

from realm_mocks.server.errors import ApiError
from realm_mocks.server.variation import Variation


class Site(web.TCPSite):
    """aiohttp's site, whose connections go through the hooks of `variations`."""

    def __init__(self, runner: web.AppRunner, host: str, port: int, variations: Sequence[Variation]) -> None:
        super().__init__(runner, host, port, backlog=1024)
        self._where = host, port
        self._variations = variations

    async def start(self) -> None:
        """Listen and accept."""
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None  # since the runner is set up
        crowd: dict[Connection, None] = {}
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(server, self._variations, crowd), *self._where, backlog=self._backlog
        )


class Connection(web.RequestHandler):
    """One connection. What cannot be parsed is answered with an error object, too.

    Args:
        crowd: all connections of the server that are open, oldest first.
    """

    __slots__ = ("_crowd", "_unfinished", "_variations", "_waiting")

    def __init__(
        self, server: web.Server, variations: Sequence[Variation], crowd: dict[Connection, None]
    ) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), access_log=None)  # type: ignore[arg-type]
        self._variations = variations
        self._crowd = crowd
        self._waiting = b""
        self._unfinished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the crowd."""
        super().connection_made(transport)
        self._crowd[self] = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leave it; one that waited may have a worker now."""
        if not (self._unfinished and any(v.workers_lost for v in self._variations)):
            del self._crowd[self]
        super().connection_lost(exc)
        for other in list(self._crowd):
            if other._waiting:
                other.data_received(b"")

    def data_received(self, data: bytes) -> None:
        """Take bytes, if a worker is free for this connection."""
        workers = min((v.workers for v in self._variations if v.workers is not None), default=None)
        if workers is not None and self not in list(self._crowd)[:workers]:
            self._waiting += data
            return
        data, self._waiting = self._waiting + data, b""
        self._unfinished = True
        for variation in self._variations:
            if variation.incoming is not None and data:
                data = variation.incoming(data)
        super().data_received(data)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """The request is over: whoever leaves now leaves nothing behind."""
        done = await super().finish_response(request, resp, start_time)
        self._unfinished = False
        return done

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The reply to what is no request."""
        if not any(variation.answers_in_1_0 for variation in self._variations):
            request._version = HttpVersion11  # aiohttp takes what it cannot parse for HTTP/1.0
        long = isinstance(exc, http_exceptions.LineTooLong) or "Too many" in (message or "")
        error = ApiError(431 if long and status == 400 else status, "The request is not valid HTTP/1.1")
        for variation in self._variations:
            if variation.unparsed is not None and exc is not None:
                error = variation.unparsed(error, exc)
        response = web.Response(
            status=error.status, body=json.dumps(error.body()).encode(), content_type="application/json"
        )
        response.force_close()
        return response

    def log_exception(self, *_: object, **__: object) -> None:
        """Bad requests are what a mock is for: no traceback."""
