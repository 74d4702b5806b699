"""The adapters that an operator names: files one by one, and a folder of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from realm_reference.engine import Engine
    from realm_reference.model.adapters import Adapter
    from realm_reference.model.config import LlamaConfig

F = TypeVar("F", bound=Callable[..., Any])


class NamedPath(click.ParamType[tuple[str, Path]]):
    """NAME=PATH as a pair."""

    name = "NAME=PATH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Path]:
        """The pair, or click's complaint."""
        if isinstance(value, tuple):
            return value
        name, sign, path = str(value).partition("=")
        if not (name and sign and path):
            self.fail(f"{value!r} is not NAME=PATH, such as fr=adapters/fr", param, ctx)
        return name, Path(path)


def adapter_option(command: F) -> F:
    """--adapter, repeatable, of the commands that run a model."""
    return click.option(
        "--adapter",
        type=NamedPath(),
        multiple=True,
        help="A LoRA adapter and its name: a folder of PEFT's, a .safetensors or a .gguf file, or"
        " seed:N for one that is drawn, to try with. Repeatable.",
    )(command)


def read_adapters(
    given: Sequence[tuple[str, Path]], folder: Path | None, config: LlamaConfig
) -> list[Adapter]:
    """Read the named files, and all in the folder, which are named as they are.

    Raises AdapterFileError or ModelFileError for the first that cannot be used, and for a name that is there
    twice.
    """
    from realm_reference.model.adapter_files import load_adapter
    from realm_reference.model.drawn_adapters import SEED, drawn_adapter
    from realm_reference.model.errors import AdapterFileError

    adapters: dict[str, Adapter] = {}
    for name, path in [*given, *_in_folder(folder)]:
        if name in adapters:
            raise AdapterFileError(f"two adapters have the name {name!r}; give one of them another")
        drawn = str(path).startswith(SEED)
        adapters[name] = (drawn_adapter if drawn else load_adapter)(name, str(path), config)
    return list(adapters.values())


def _in_folder(folder: Path | None) -> list[tuple[str, Path]]:
    from realm_reference.model.errors import AdapterFileError
    from realm_reference.model.peft import CONFIG_FILE

    if folder is None:
        return []
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise AdapterFileError(
            f"the folder of adapters {folder} cannot be read: {error.strerror}; name another with --adapters"
        ) from None
    ggufs = [(path.stem, path) for path in entries if path.suffix == ".gguf"]
    return ggufs + [(path.name, path) for path in entries if (path / CONFIG_FILE).is_file()]


def unload_others(engine: Engine, adapters: Sequence[Adapter]) -> None:
    """Let go of what is loaded under other names than theirs; who runs with it goes on."""
    for name in set(engine.adapters.loaded) - {adapter.name for adapter in adapters}:
        engine.adapters.unload(name)


def load_all(engine: Engine, adapters: Sequence[Adapter]) -> None:
    """Load those that are new or have changed."""
    for adapter in adapters:
        engine.adapters.load(adapter)
