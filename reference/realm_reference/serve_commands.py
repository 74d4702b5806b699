"""`realm serve`: its flags, and what of them is refused before anything is read."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from realm_reference.command_options import (
    CannotStart,
    FiniteRange,
    check_drafts,
    check_gpu,
    draft_options,
    limit_threads,
    model_options,
)
from realm_reference.serve_adapters import adapter_option
from realm_reference.serve_config import check_environment, load_config
from realm_reference.serve_process import serve_until_stopped

LOG_LEVELS = ["debug", "info", "warning", "error"]
PORT = click.IntRange(0, 65535)


@click.command(context_settings={"auto_envvar_prefix": "REALM_SERVE"})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=load_config,
    help="TOML file with these flags as keys. Flags and REALM_SERVE_* variables win over it.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=PORT,
    default=8080,
    show_default=True,
    help="Port for the WebSocket, unless only --http-port or --fd is given; 0 takes a free one.",
)
@click.option("--http", is_flag=True, help="Serve HTTP and SSE too, with the WebSocket at /ws.")
@click.option("--http-port", type=PORT, help="Port for HTTP; 0 takes a free one.  [default: port + 1]")
@click.option(
    "--fd",
    type=click.IntRange(0),
    help="Serve HTTP on the listening socket that a supervisor passes on as this file descriptor.",
)
@click.option(
    "--metrics-port",
    type=PORT,
    help="Serve /metrics on this port and not on the HTTP port; 0 takes a free one.",
)
@model_options
@adapter_option
@click.option(
    "--adapters",
    type=click.Path(path_type=Path),
    help="Folder of LoRA adapters, each named as it is in it; on SIGHUP it is read again.",
)
@click.option("--auth/--no-auth", default=False, help="Require an API key; needs --api-keys.")
@click.option("--api-keys", type=click.Path(path_type=Path), help="File of keys, which `realm keys` makes.")
@click.option(
    "--tenants",
    type=click.Path(path_type=Path),
    help="TOML file of what each tenant may use. It and the keys are read again when they change.",
)
@click.option(
    "--pipelines",
    type=click.Path(path_type=Path),
    help="Folder of pipelines (YAML or JSON) for the WebSocket's function of that name.",
)
@click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    help="SQLite file for a row of each request, which `realm usage` sums up.",
)
@click.option(
    "--max-tenants",
    type=click.IntRange(1, 1024),
    default=8,
    show_default=True,
    help="Guests at the same time; a tenant that has none running may start one more.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(0),
    default=64,
    show_default=True,
    help="Requests of a tenant that may wait for a guest.",
)
@click.option(
    "--kv-cache",
    type=click.IntRange(1),
    metavar="MIB",
    default=1024,
    show_default=True,
    help="Memory for the keys and values of all sequences, but at least for one of the whole context.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(1),
    default=4096,
    show_default=True,
    help="Open HTTP connections; past it the one that was idle longest is closed.",
)
@click.option(
    "--guest-timeout",
    type=FiniteRange(0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds a guest may compute between two host calls.",
)
@click.option(
    "--guests-on",
    type=click.Choice(["auto", "fibers", "threads"]),
    default="auto",
    show_default=True,
    help="All guests on fibers of one thread, or each on its own; auto: fibers, where wasmtime has them.",
)
@click.option(
    "--request-timeout",
    type=FiniteRange(0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds a request may take.",
)
@click.option(
    "--drain-timeout",
    type=FiniteRange(0),
    default=30.0,
    show_default=True,
    help="Seconds to finish requests on SIGTERM.",
)
@click.option(
    "--drain-grace",
    type=FiniteRange(0),
    default=0.0,
    show_default=True,
    help="Seconds after SIGTERM in which requests are still taken, so that clients find another server.",
)
@click.option(
    "--default-max-tokens",
    type=click.IntRange(1),
    help="Limit for requests without one.  [default: the context's end]",
)
@draft_options
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help='Write {"url", "operations_url", "websocket_url", "pid"} here once requests are served.',
)
@click.option(
    "--otlp-endpoint",
    metavar="URL",
    help="Send OpenTelemetry traces to this OTLP/HTTP collector, such as http://localhost:4318.",
)
@click.option(
    "--trace-ratio",
    type=FiniteRange(0, 1),
    default=1.0,
    show_default=True,
    help="Part of the requests that is traced, where their clients have not decided.",
)
@click.option("--log-format", type=click.Choice(["json", "text"]), default="text", show_default=True)
@click.option("--log-level", type=click.Choice(LOG_LEVELS), default="info", show_default=True)
def serve(**options: Any) -> None:
    """Serve a model over Realm's WebSocket and the OpenAI API, each request orchestrated by a WASM guest."""
    check_environment(click.get_current_context(), os.environ)
    if options["auth"] != (options["api_keys"] is not None):
        raise click.UsageError("--auth and --api-keys FILE need each other")
    check_drafts(options)
    _check_ready_file(options["ready_file"])
    check_gpu(options["gpu"])
    limit_threads(options["threads"] or 1)
    from realm_reference.server.telemetry import logs

    logs.configure(options["log_format"], options["log_level"])
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    from realm_reference.server.access.tenancy import TenancyError

    try:
        with ExitStack() as resources:
            serve_until_stopped(options, resources)
    except TenancyError as error:
        raise CannotStart(str(error)) from None


def _check_ready_file(path: Path | None) -> None:
    """Before the model is loaded; and a device or a folder is nothing that a file can take the place of."""
    if path is None:
        return
    if not path.parent.is_dir():
        raise CannotStart(f"--ready-file: there is no folder {path.parent}; make it, or choose another")
    if path.exists() and not path.is_file():
        raise CannotStart(f"--ready-file: {path} is no regular file; choose another")
