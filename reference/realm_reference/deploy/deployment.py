"""A deployment as its file says it: which model, how many servers, at which port, with which limits."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import yaml

from realm_reference.deploy.errors import DeployError

MAX_REPLICAS: Final = 32
_NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_MEMORY: Final = re.compile(r"[1-9][0-9]*(Mi|Gi)")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Deployment:
    """One deployment file.

    Attributes:
        folder: where the file lies; its relative paths begin there.
        name: of the deployment, and of all that is made for it.
        model: a known model or a GGUF file.
        replicas: how many servers, behind one port.
        host: the address at which clients reach them; containers listen on all of theirs.
        port: the port at which clients reach them.
        metrics_port: the first replica's port for /health, /ready and /metrics, where they are fixed.
        image: the container image.
        keys, tenants, ledger, env_file: files for `realm serve` and its environment, or None.
        env: variables of the servers' environment.
        serve: further options of `realm serve`, by name.
        memory: limit of a replica where the platform sets limits, such as 2Gi.
        cpus: the same of its processors.
        drain_grace: seconds in which a stopping replica serves on while clients turn away.
        drain_timeout: seconds that running requests then have.
        max_replicas: for targets that scale by themselves; None keeps to `replicas`.
    """

    folder: Path
    name: str
    model: str
    replicas: int = 1
    host: str = "127.0.0.1"
    port: int = 8080
    metrics_port: int = 9090
    image: str | None = None
    keys: Path | None = None
    tenants: Path | None = None
    ledger: Path | None = None
    env_file: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    serve: Mapping[str, Any] = field(default_factory=dict)
    memory: str = "2Gi"
    cpus: float = 1.0
    drain_grace: float = 5.0
    drain_timeout: float = 30.0
    max_replicas: int | None = None

    @property
    def stop_seconds(self) -> int:
        """How long a replica may take to stop: what it allows itself, and some seconds for its end."""
        return round(self.drain_grace + self.drain_timeout) + 10

    @property
    def model_file(self) -> Path | None:
        """The model's file, if it is named by one."""
        return self.folder / self.model if self.model.endswith(".gguf") else None


class _NoTwice(yaml.SafeLoader):
    """YAML as TOML reads it: a key that stands twice is a mistake, and not the last of them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; ConstructorError for a key that it has already."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                message = f"the key '{key.value}' stands there twice"
                raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load(path: Path) -> Deployment:
    """Read a TOML or YAML file; DeployError names the file and what is wrong with it."""
    try:
        return _deployment(path.resolve().parent, _mapping(path))
    except DeployError as error:
        raise DeployError(f"{path}: {error}") from None


def _mapping(path: Path) -> dict[str, Any]:
    language = "YAML" if path.suffix in (".yaml", ".yml") else "TOML"
    try:
        text = path.read_text("utf-8-sig")  # some editors begin a file with a byte order mark
    except OSError as error:
        raise DeployError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DeployError("is not UTF-8 text") from None
    try:
        content = yaml.load(text, _NoTwice) if language == "YAML" else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise DeployError(" ".join(f"cannot be parsed as {language}: {error}".split())) from None
    if not isinstance(content, dict):
        raise DeployError("must hold settings by name, such as: name, model, port")
    return content


def _deployment(folder: Path, content: dict[str, Any]) -> Deployment:
    known = {entry.name.replace("_", "-") for entry in fields(Deployment)} - {"folder"}
    for key in content:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(sorted(known))}"
            raise DeployError(f"unknown setting '{key}'; {hint}")
    for key in ("name", "model"):
        if key not in content:
            raise DeployError(f"the setting '{key}' is missing")
    values = {key.replace("-", "_"): _CHECKS[key](key, value) for key, value in content.items()}
    for key in ("keys", "tenants", "env_file"):
        if key in values:
            values[key] = _existing(key, folder / values[key])
    if "ledger" in values:
        values["ledger"] = folder / values["ledger"]
    made = Deployment(folder, **values)
    if made.model_file is not None:
        _existing("model", made.model_file)
    if made.max_replicas is not None and made.max_replicas < made.replicas:
        raise DeployError(f"'max-replicas' is {made.max_replicas}, less than 'replicas' ({made.replicas})")
    return made


def _existing(key: str, path: Path) -> Path:
    if not path.is_file():
        raise DeployError(f"'{key.replace('_', '-')}' names {path}, which is not a file")
    return path


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value or "\n" in value:
        raise DeployError(f"'{key}' must be a text of one line, not {value!r}")
    return value


def _matching(pattern: re.Pattern[str], said: str) -> Callable[[str, Any], str]:
    def check(key: str, value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise DeployError(f"'{key}' must be {said}, not {value!r}")
        return value

    return check


def _number(low: float, high: float, whole: bool = True) -> Callable[[str, Any], Any]:
    kind = "a whole number" if whole else "a number"

    def check(key: str, value: Any) -> Any:
        wanted = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted) or not low <= value <= high:
            raise DeployError(f"'{key}' must be {kind} from {low} to {high}, not {value!r}")
        return value

    return check


def _variables(key: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise DeployError(f"'{key}' must hold variables by name")
    for name, given in value.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise DeployError(f"'{key}' has {name!r}, which cannot name a variable")
        if not isinstance(given, str) or "\n" in given:
            raise DeployError(f"'{key}.{name}' must be a text of one line; put quotes around it")
    return dict(value)


def _options(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or any(isinstance(given, dict | list) for given in value.values()):
        raise DeployError(f"'{key}' must hold options of `realm serve` by name")
    return dict(value)


_CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "name": _matching(_NAME, "1 to 40 lower-case letters, digits and '-', beginning with a letter"),
    "model": _text,
    "replicas": _number(1, MAX_REPLICAS),
    "host": _text,
    "port": _number(1, 65535),
    "metrics-port": _number(1, 65535 - MAX_REPLICAS),
    "image": _text,
    "keys": _text,
    "tenants": _text,
    "ledger": _text,
    "env-file": _text,
    "env": _variables,
    "serve": _options,
    "memory": _matching(_MEMORY, "a size such as 512Mi or 2Gi"),
    "cpus": _number(0.1, 1024, whole=False),
    "drain-grace": _number(0, 3600, whole=False),
    "drain-timeout": _number(0, 3600, whole=False),
    "max-replicas": _number(1, 1000),
}
