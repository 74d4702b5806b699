"""The routes for those who run the server: is the process alive, can it serve, what has it done."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

from aiohttp import web

from realm_reference.engine import Engine
from realm_reference.server.service import Service
from realm_reference.server.telemetry import metrics as metrics_module

VERSION = version("realm-harness")
HEALTH, READY, METRICS = OPERATIONS = "/health", "/ready", "/metrics"


class Pulse:
    """Asks the engine whether it turns. A stuck one holds one thread, however many ask."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self._asking: asyncio.Future[bool] | None = None

    async def felt(self) -> bool:
        """Whether the engine ended a step, or answered a ping, within the seconds."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(asyncio.to_thread(self._engine.responds, self._seconds))
        return await asyncio.shield(self._asking)


def add_operations(app: web.Application, service: Service, *, with_metrics: bool) -> None:
    """Put /health and /ready on `app`, and /metrics if it is not on a port of its own."""
    pulse = Pulse(service.engine, service.settings.pulse_seconds)

    async def health(request: web.Request) -> web.Response:
        """The process is alive and its event loop turns."""
        return web.json_response({"status": "ok", "version": VERSION})

    async def ready(request: web.Request) -> web.Response:
        """A request sent now would be served."""
        reason = service.not_ready()
        if reason is None and not await pulse.felt():
            reason = f"the engine has taken no step for {service.settings.pulse_seconds:g} s"
        state = _state(service)
        if reason is None:
            return web.json_response({"status": "ready", **state})
        return web.json_response({"status": "not ready", "reason": reason, **state}, status=503)

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(
            body=service.metrics.render(), headers={"Content-Type": metrics_module.CONTENT_TYPE}
        )

    app.router.add_get(HEALTH, health)
    app.router.add_get(READY, ready)
    if with_metrics:
        app.router.add_get(METRICS, metrics)


def _state(service: Service) -> dict[str, Any]:
    """What `realm status` shows of a server."""
    orchestrator = service.orchestrator
    return {
        "model": service.model.name,
        "fingerprint": service.model.fingerprint,
        "precision": service.model.compute.precision,
        "guest_abi": orchestrator.abi_version,
        "version": VERSION,
        "running": orchestrator.running,
        "waiting": orchestrator.waiting,
    }
