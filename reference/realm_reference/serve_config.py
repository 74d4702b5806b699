"""`realm serve --config FILE`: the flags of the command in a TOML file, checked by name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

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
        settings = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise click.BadParameter(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path} is not valid TOML: {error}") from None
    known = {option.name for option in context.command.params if option.name not in (parameter.name, None)}
    defaults: dict[str, Any] = {}
    for key, value in settings.items():
        name = key.replace("-", "_")
        if name not in known or isinstance(value, dict | list):
            raise click.BadParameter(
                f"{path} has the unknown setting '{key}'; it may have the flags of this command"
            )
        defaults[name] = value
    context.default_map = {**(context.default_map or {}), **defaults}
    return path
