"""The command line of a replica: made in one place for all targets, and parsed as `realm serve` will."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Final

import click

from realm_reference.deploy.deployment import Deployment
from realm_reference.deploy.errors import DeployError
from realm_reference.serve_commands import serve

OWN: Final = frozenset(
    {
        "config", "host", "port", "http", "http_port", "fd", "metrics_port", "model", "auth", "api_keys",
        "tenants", "ledger", "drain_timeout", "drain_grace", "ready_file", "log_format",
    }
)  # fmt: skip
"""Options that the deployment's own settings and the target decide."""


def serve_arguments(
    deployment: Deployment,
    *,
    model: str,
    listen: Sequence[str],
    keys: str | None = None,
    tenants: str | None = None,
    ledger: str | None = None,
) -> list[str]:
    """The arguments of `realm serve` for one replica; the paths are those that the replica sees.

    Raises DeployError, in one line, for an option that the program does not have or a value that it refuses.
    """
    arguments = ["--http", *listen, "--model", model]
    arguments += ["--auth", "--api-keys", keys] if keys is not None else []
    arguments += ["--tenants", tenants] if tenants is not None else []
    arguments += ["--ledger", ledger] if ledger is not None else []
    arguments += ["--drain-grace", f"{deployment.drain_grace:g}"]
    arguments += ["--drain-timeout", f"{deployment.drain_timeout:g}"]
    arguments += ["--log-format", "json"]
    for name, value in deployment.serve.items():
        arguments += _option(str(name), value)
    check(arguments)
    return arguments


def check(arguments: Sequence[str]) -> None:
    """DeployError unless `realm serve` would take these arguments."""
    try:
        serve.make_context("serve", list(arguments), auto_envvar_prefix="")
    except click.ClickException as error:
        raise DeployError(f"`realm serve` would refuse this: {error.format_message()}") from None


def _option(name: str, value: Any) -> list[str]:
    options = {option.name: option for option in serve.params if isinstance(option, click.Option)}
    option = options.get(name.replace("-", "_"))
    if option is None or option.name in OWN:
        free = sorted(str(known).replace("_", "-") for known in options.keys() - OWN)
        close = difflib.get_close_matches(name, free, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"it may have {', '.join(free)}"
        if option is not None:
            hint = "this one is decided by the deployment's own settings"
        raise DeployError(f"'serve.{name}' cannot be set; {hint}")
    if not option.is_flag:
        return [option.opts[0], str(value)]
    if not isinstance(value, bool):
        raise DeployError(f"'serve.{name}' must be true or false, not {value!r}")
    off = option.secondary_opts
    return [option.opts[0]] if value else [off[0]] if off else []
