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

log = logging.getLogger(__name__)

_BACKLOG = 1024


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet: a busy port shows before the model is loaded. Raises
    OSError.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def url_of(bound: socket.socket) -> str:
    """The URL at which the server is reached on `bound`."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class RunningServer:
    """A service on its sockets. `stop` drains it; nothing of it is left then."""

    def __init__(self, service: Service, api: socket.socket, metrics: socket.socket | None = None) -> None:
        self._service = service
        self._sockets = [(api, make_app(service))]
        if metrics is not None:
            self._sockets.append((metrics, make_metrics_app(service)))
        self._runners: list[web.AppRunner] = []
        self._sites: list[web.SockSite] = []
        self.url = url_of(api)

    async def start(self) -> None:
        """Listen and accept."""
        for bound, app in self._sockets:
            # Without handler_cancellation a handler would not learn that its client has gone.
            runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            self._runners.append(runner)
            site = web.SockSite(runner, bound, backlog=_BACKLOG)
            await site.start()
            self._sites.append(site)

    async def stop(self) -> None:
        """Refuse new requests, let the running ones end within the deadline, cancel the rest, close
        everything.
        """
        self._service.draining = True
        await self._service.orchestrator.close(self._service.settings.drain_seconds)
        for runner in self._runners:
            await runner.cleanup()
        await asyncio.to_thread(self._service.engine.close)


async def serve_until_signal(server: RunningServer, ready_file: Path | None) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends the drain early."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await server.start()
    if ready_file is not None:
        write_ready_file(ready_file, server.url)
    log.info("serving", extra={"url": server.url})
    try:
        await asked.wait()
        log.info("draining")
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        await server.stop()
    log.info("stopped")


def write_ready_file(path: Path, url: str) -> None:
    """``{"url", "pid"}``, whole or not there at all: who waits for it never reads half of it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps({"url": url, "pid": os.getpid()}), encoding="utf-8")
    partial.replace(path)
