"""`realm serve --config FILE`: the flags of the command in a TOML file, checked by name."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click


def load_config(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """A callback of the eager option --config: what is in the file becomes the default of the flag of its
    name.

    Flags and environment variables win over the file. An unknown key is an error, so that no setting is
    ignored.
    """
    if path is None:
        return None
    try:
        settings = tomllib.loads(path.read_text("utf-8-sig"))  # with a byte order mark or without
    except OSError as error:
        raise click.BadParameter(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path} is not valid TOML: {error}") from None
    known = {option.name: option for option in context.command.params if option.name and option != parameter}
    defaults: dict[str, Any] = {}
    for key, value in settings.items():
        name = key.replace("-", "_")
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = (
                f"did you mean '{close[0].replace('_', '-')}'?"
                if close
                else "it may have the command's flags"
            )
            raise click.BadParameter(f"{path} has the unknown setting '{key}'; {hint}")
        if problem := _misfit(known[name], value):
            raise click.BadParameter(f"{path}: the setting '{key}' {problem}")
        defaults[name] = value
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


PREFIX: Final = "REALM_SERVE_"
# What Kubernetes puts into every container for a Service that is called realm-serve.
_OF_A_SERVICE: Final = re.compile(r"(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP)(_\w+)?)")


def check_environment(context: click.Context, environment: Mapping[str, str]) -> None:
    """click.UsageError for a variable that looks like a flag's and is none, so that no setting is ignored."""
    known = {option.name.upper() for option in context.command.params if option.name}
    given = {name.removeprefix(PREFIX) for name in environment if name.startswith(PREFIX)}
    for name in sorted(given - known):
        if not _OF_A_SERVICE.fullmatch(name):
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {PREFIX}{close[0]}?" if close else "unset it"
            raise click.UsageError(f"the environment has {PREFIX}{name}, which is no flag's variable; {hint}")


def _misfit(option: click.Parameter, value: Any) -> str | None:
    """What is wrong with a value's type. click would make whole numbers of 80.5 and of true."""
    if isinstance(option.type, click.types.BoolParamType):
        return None if isinstance(value, bool) else f"must be true or false, not {value!r}"
    if isinstance(option, click.Option) and option.multiple:
        strings = isinstance(value, list) and all(isinstance(one, str) for one in value)
        return None if strings else "must be an array of strings"
    if isinstance(value, bool | dict | list):
        return "must be a single value, not " + {bool: "a boolean", list: "a list"}.get(
            type(value), "a table"
        )
    if isinstance(value, float) and isinstance(option.type, click.types.IntParamType):
        return f"must be a whole number, not {value}"
    return None
