"""From bound sockets to the last byte: start, serve, drain, stop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from pathlib import Path

from aiohttp import web

from realm_reference.server.app import make_app, make_metrics_app
from realm_reference.server.service import Service
from realm_reference.server.websocket import PATH, leave_idle
from realm_reference.server.websocket.standalone import make_websocket_app
from realm_reference.server.wire.gate import GatedSite
from realm_reference.server.wire.sockets import BACKLOG, url_of

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05


class RunningServer:
    """A service on its sockets. `stop` drains it; nothing of it is left then.

    With `shared`, other servers take connections from the same queue as this one (see `sockets.inherit`).
    """

    def __init__(
        self,
        service: Service,
        api: socket.socket,
        operations: socket.socket | None = None,
        *,
        websocket: socket.socket | None = None,
        http: bool = True,
        shared: bool = False,
    ) -> None:
        """`websocket` is a socket of its own for the WebSocket; without `http` it is all that `api` has."""
        self.service = service
        self._shared = shared
        app = make_app(service) if http else make_websocket_app(service)
        app.on_response_prepare.append(self._close_when_leaving)
        self._served = [(api, app)]
        if operations is not None:
            self._served.append((operations, make_metrics_app(service)))
        if websocket is not None:
            self._served.append((websocket, make_websocket_app(service)))
        self._runners: list[web.AppRunner] = []
        self.url = url_of(api)
        self.operations_url = self.url if operations is None else url_of(operations)
        socket_url = url_of(websocket) if websocket is not None else f"{self.url}{PATH if http else ''}"
        self.websocket_url = socket_url.replace("http", "ws", 1)

    async def start(self) -> None:
        """Listen and accept."""
        for bound, app in self._served:
            # Without handler_cancellation a handler would not learn that its client has gone.
            runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            self._runners.append(runner)
            await GatedSite(runner, bound, self.service, backlog=BACKLOG).start()

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """Leave, refuse new requests, let the running ones end within the deadline, cancel the rest, close
        everything. `hurry` cuts the waiting short.
        """
        hurry = hurry or asyncio.Event()
        await self._leave(hurry)
        self.service.draining = True
        await self.service.orchestrator.close(self.service.settings.drain_seconds, hurry)
        for runner in self._runners:
            await runner.cleanup()
        await asyncio.to_thread(self.service.engine.close)

    async def _leave(self, hurry: asyncio.Event) -> None:
        """For the grace period, serve on but ask to be left: not ready any more, and each answer closes its
        connection. So load balancers and kept-alive connections go elsewhere before anything is refused.

        Who shares a queue lets the others take new connections from the start, and is done when the old
        ones are gone.
        """
        api = self._runners[0]
        self.service.leaving = True
        if self.service.settings.leave_seconds:
            await asyncio.gather(*(leave_idle(app) for _, app in self._served))
        if self._shared:
            for site in list(api.sites):
                if isinstance(site, GatedSite):
                    await site.retire()
        clock = asyncio.get_running_loop().time
        end = clock() + self.service.settings.leave_seconds
        while clock() < end and not hurry.is_set():
            # First a pause: a connection that was just accepted is not among the connections yet.
            await asyncio.sleep(_POLL_SECONDS)
            if self._shared and api.server is not None and not api.server.connections:
                return

    async def _close_when_leaving(self, request: web.Request, response: web.StreamResponse) -> None:
        if self.service.leaving:
            response.force_close()
            response.headers["Connection"] = "close"


async def serve_until_signal(server: RunningServer, ready_file: Path | None) -> None:
    """Serve until SIGTERM or SIGINT; a second one cuts the drain short. SIGHUP reloads keys and limits."""
    loop = asyncio.get_running_loop()
    asked, hurry, reloads = asyncio.Event(), asyncio.Event(), asyncio.Queue[None]()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (hurry if asked.is_set() else asked).set())
    loop.add_signal_handler(signal.SIGHUP, reloads.put_nowait, None)
    reloading = asyncio.create_task(_reload_when_asked(server.service, reloads))
    await server.start()
    if ready_file is not None:
        write_ready_file(ready_file, server)
    log.info("serving", extra={"url": server.url})
    try:
        await asked.wait()
        log.info("draining")
    finally:
        reloading.cancel()
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)
        await server.stop(hurry)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
    log.info("stopped")


async def _reload_when_asked(service: Service, reloads: asyncio.Queue[None]) -> None:
    """One reload after the other; one that fails changes nothing and is logged."""
    while True:
        await reloads.get()
        await service.reload()


def write_ready_file(path: Path, server: RunningServer) -> None:
    """``{"url", "operations_url", "websocket_url", "pid"}``, whole or not there at all: who waits for it
    never reads half of it.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    content = {
        "url": server.url,
        "operations_url": server.operations_url,
        "websocket_url": server.websocket_url,
        "pid": os.getpid(),
    }
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)
