"""Where `realm serve` listens. As Realm does, it has the WebSocket on --port and HTTP on the port after it.

The WebSocket is on HTTP's port too, at /ws, because one port is what a proxy, a supervisor and a test want:
who names that one port alone (--http-port or --fd, and no --port) gets no other.
"""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from realm_reference.command_options import CannotStart

if TYPE_CHECKING:
    from realm_reference.server.settings import ServerSettings


@dataclass(frozen=True)
class Sockets:
    """Bound, not listening yet: a busy port shows before the model is loaded.

    `api` has HTTP, or the WebSocket alone where HTTP is not served; `websocket` has it beside HTTP.
    """

    api: socket.socket
    operations: socket.socket | None
    websocket: socket.socket | None


def http_port(options: dict[str, Any]) -> int:
    """The port for HTTP, or for the WebSocket where there is no HTTP."""
    if not options["http"]:
        if options["http_port"] is not None or options["fd"] is not None:
            raise click.UsageError("--http-port and --fd are for HTTP; give --http")
        return int(options["port"])
    if options["http_port"] is not None:
        return int(options["http_port"])
    if options["port"] == 65535:
        raise click.UsageError("--port 65535 leaves no next port; give --http-port")
    return int(options["port"]) + 1 if options["port"] else 0


def open_sockets(options: dict[str, Any], settings: ServerSettings, resources: ExitStack) -> Sockets:
    """All sockets of the server; CannotStart names the one that cannot be had."""
    own_port = options["http"] and (
        _is_given("port") or (options["http_port"] is None and options["fd"] is None)
    )
    api = _inherited(options, resources) if options["fd"] is not None else None
    if api is None:
        api = _bind(
            settings.host, settings.http_port, "--http-port" if options["http"] else "--port", resources
        )
    _refuse_same(
        {
            "--http-port" if options["http"] else "--port": settings.http_port
            if options["fd"] is None
            else 0,
            "--metrics-port": settings.metrics_port,
            **({"--port": options["port"]} if own_port else {}),
        }
    )
    websocket = _bind(settings.host, options["port"], "--port", resources) if own_port else None
    operations = None
    if settings.metrics_port is not None:
        operations = _bind(settings.host, settings.metrics_port, "--metrics-port", resources)
    return Sockets(api, operations, websocket)


def _refuse_same(ports: dict[str, int | None]) -> None:
    """Two sockets may be bound to one port before they listen, and only then would the second fail."""
    flags: dict[int, str] = {}
    for flag, port in ports.items():
        if port and port in flags:
            raise click.UsageError(f"{flags[port]} and {flag} are both {port}; give each a port of its own")
        flags[port or 0] = flag


def _is_given(name: str) -> bool:
    """Whether a flag, a variable or the config file has the option."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not click.core.ParameterSource.DEFAULT


def _inherited(options: dict[str, Any], resources: ExitStack) -> socket.socket:
    from realm_reference.server.wire.sockets import inherit

    if options["http_port"] is not None:
        raise click.UsageError("--fd brings a socket with a port; leave out --http-port")
    try:
        return resources.enter_context(inherit(options["fd"]))
    except ValueError as error:
        raise CannotStart(f"--fd: {error}; start it under a supervisor, or give --http-port") from None


def _bind(host: str, port: int, flag: str, resources: ExitStack) -> socket.socket:
    from realm_reference.server.wire.sockets import bind

    try:
        return resources.enter_context(bind(host, port))
    except OSError as error:
        ours = error.errno in (errno.EADDRINUSE, errno.EACCES)
        remedy = (
            f"choose another {flag}" if ours else "--host takes an address of this machine, without http://"
        )
        raise CannotStart(f"cannot listen on {host!r} port {port}: {error.strerror}; {remedy}") from None
