"""The process of `realm serve`: what its options mean, put together, run, and read anew on a signal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from realm_reference.command_options import CannotStart, chosen_compute
from realm_reference.serve_adapters import load_all, read_adapters, unload_others
from realm_reference.serve_sockets import http_port, open_sockets

# The server's modules are imported inside the functions: `realm --help` should not wait for wasmtime.

log = logging.getLogger(__name__)


def serve_until_stopped(options: dict[str, Any], resources: ExitStack) -> None:
    """Put the server together from the command's options and serve until a signal ends it.

    What it holds is given to `resources`. Raises CannotStart and TenancyError, each with one line.
    """
    from realm_reference import assembly
    from realm_reference.model.errors import ModelError
    from realm_reference.server.access.tenancy import open_tenancy
    from realm_reference.server.lifecycle import RunningServer
    from realm_reference.server.service import Service
    from realm_reference.server.telemetry.metrics import Metrics

    settings, compute = _settings(options), chosen_compute(options)
    tenancy = resources.enter_context(
        open_tenancy(options["api_keys"], options["tenants"], options["ledger"])
    )
    _pipelines(options["pipelines"], None)  # what is wrong in them shows before the model is loaded
    sockets = open_sockets(options, settings, resources)
    metrics = Metrics(_tracing(options, resources))
    log.info("loading", extra={"model": options["model"], "guest": options["wasm"]})
    try:
        engine, orchestrator = resources.enter_context(
            assembly.orchestrator(
                options["model"],
                options["wasm"],
                compute=compute,
                draft=assembly.Draft.of(options),
                guests_on=options["guests_on"],
                limits=settings.limits,
                max_running=settings.max_running,
                cache_bytes=options["kv_cache"] << 20,
                max_waiting=settings.max_waiting,
                metrics=metrics,
            )
        )
        tenancy.load_guests(orchestrator)
        adapters = _adapters(options, orchestrator.model)
        tenancy.check_adapters([adapter.name for adapter in adapters])
        tenancy.use_adapters(engine.adapters)
        load_all(engine, adapters)
    except (assembly.AssemblyError, ModelError) as error:
        raise CannotStart(str(error)) from None
    service = Service(
        settings, orchestrator.model, engine, orchestrator, tenancy.auth, metrics, tenancy.admission
    )
    service.on_reload = partial(_reload, tenancy, service, options)
    service.pipelines = _pipelines(options["pipelines"], service.model.name, engine.adapters.loaded)
    server = RunningServer(
        service,
        sockets.api,
        sockets.operations,
        websocket=sockets.websocket,
        http=options["http"],
        shared=options["fd"] is not None,
    )
    asyncio.run(_until_signal(server, tenancy, options["ready_file"]))


def _reload(tenancy: Any, service: Any, options: dict[str, Any]) -> None:
    """Read the files anew. An adapter is never without its owners: what goes is gone before, what comes comes
    after these are known.
    """
    adapters = _adapters(options, service.model)
    names = [adapter.name for adapter in adapters]
    pipelines = _pipelines(options["pipelines"], service.model.name, names)
    tenancy.reload(service.orchestrator, names)
    unload_others(service.engine, adapters)
    tenancy.use_adapters(service.engine.adapters)
    load_all(service.engine, adapters)
    service.pipelines = pipelines


def _adapters(options: dict[str, Any], model: Any) -> Any:
    return read_adapters(options["adapter"], options["adapters"], model.config)


async def _until_signal(server: Any, tenancy: Any, ready_file: Path | None) -> None:
    from realm_reference.server.lifecycle import serve_until_signal

    watching = asyncio.create_task(tenancy.watch(server.service))
    try:
        await serve_until_signal(server, ready_file)
    finally:
        watching.cancel()


def _settings(options: dict[str, Any]) -> Any:
    from realm_reference.orchestration import GuestLimits
    from realm_reference.server.settings import ServerSettings

    return ServerSettings(
        host=options["host"],
        http_port=http_port(options),
        metrics_port=options["metrics_port"],
        max_running=options["max_tenants"],
        max_waiting=options["max_queue"],
        max_connections=options["max_connections"],
        default_max_tokens=options["default_max_tokens"],
        draft_tokens=options["draft_tokens"],
        leave_seconds=options["drain_grace"],
        drain_seconds=options["drain_timeout"],
        limits=GuestLimits(guest_seconds=options["guest_timeout"], wall_seconds=options["request_timeout"]),
    )


def _tracing(options: dict[str, Any], resources: ExitStack) -> Any:
    if options["otlp_endpoint"] is None:
        return None
    from realm_reference.server.telemetry.tracing import TracingUnavailable, exported

    try:
        return resources.enter_context(exported(options["otlp_endpoint"], options["trace_ratio"]))
    except TracingUnavailable as error:
        raise CannotStart(str(error)) from None


def _pipelines(folder: Path | None, model: str | None, adapters: Collection[str] | None = None) -> Any:
    from realm_reference.pipelines import PipelineError, load_folder

    try:
        return {} if folder is None else load_folder(folder, model=model, adapters=adapters)
    except PipelineError as error:
        raise CannotStart(str(error)) from None
