"""What each tenant may use: a TOML file that people read and write.

[defaults]                  # for tenants that are not named below, and for what they leave out
requests_per_minute = 60
requests_burst = 100        # so many at once after a pause; without it as many as a minute's
tokens_per_minute = 20000   # prompt and completion together
concurrency = 4             # requests at the same time
context = 2048              # tokens of one sequence
tokens_per_day = 1000000    # from midnight to midnight, UTC

[tenants.acme]
concurrency = 16
guest = "guests/acme.wasm"  # its own module, beside this file
adapter = "acme-fr"         # a LoRA adapter for its requests that name none
adapters = ["acme-de"]      # more that are its own: what a tenant has here is for nobody else
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from realm_reference.tenants.caller import TENANT_ID

_MOST: Final = 10**12
_HEADER: Final = re.compile(r"\s*\[\s*([^\[\]#]+?)\s*\]")
_KEY: Final = re.compile(r"\s*[\"']?([\w.-]+?)[\"']?\s*=")


class PolicyError(Exception):
    """The file cannot be used; one line that names the line and the field."""


@dataclass(frozen=True)
class Policy:
    """A tenant's limits; None is no limit, no `guest` is the server's. `adapters` are its own, the one among
    them that it gets unasked included.
    """

    requests_per_minute: int | None = None
    requests_burst: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    context: int | None = None
    tokens_per_day: int | None = None
    guest: Path | None = None
    adapter: str | None = None
    adapters: frozenset[str] = frozenset()


_OTHERS: Final = ("guest", "adapter", "adapters")
_NUMBERS: Final = tuple(item.name for item in fields(Policy) if item.name not in _OTHERS)


@dataclass(frozen=True)
class Policies:
    """All tenants' policies."""

    defaults: Policy = field(default_factory=Policy)
    named: Mapping[str, Policy] = field(default_factory=dict)

    def of(self, tenant: str) -> Policy:
        """The policy of any tenant."""
        return self.named.get(tenant, self.defaults)

    @property
    def guests(self) -> dict[str, Path]:
        """The modules of tenants that have their own."""
        return {tenant: policy.guest for tenant, policy in self.named.items() if policy.guest}

    @property
    def adapters(self) -> dict[str, frozenset[str]]:
        """The tenants of each adapter that is not for everybody."""
        owned = {name for policy in self.named.values() for name in policy.adapters}
        return {
            name: frozenset(tenant for tenant, policy in self.named.items() if name in policy.adapters)
            for name in owned
        }

    @property
    def have_quota(self) -> bool:
        """Whether somebody's tokens are counted by the day."""
        return any(policy.tokens_per_day for policy in (self.defaults, *self.named.values()))


def load_policies(path: Path) -> Policies:
    """Read the file; PolicyError says what is wrong and where."""
    try:
        text = path.read_text("utf-8-sig")  # some editors begin a file with a byte order mark
        tables = tomllib.loads(text)
    except OSError as error:
        raise PolicyError(f"cannot read the tenants file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path} is not valid TOML: {error}") from None
    return _Reader(path, text).policies(tables)


class _Reader:
    """Checks the tables of one file, and finds the lines that its errors name."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()

    def policies(self, tables: Mapping[str, Any]) -> Policies:
        for name in tables:
            if name not in {"defaults", "tenants"}:
                raise self._wrong(name, "", "is not known; there are [defaults] and [tenants.NAME]")
        defaults = self._policy("defaults", tables.get("defaults", {}), Policy())
        if defaults.guest is not None:
            raise self._wrong("defaults", "guest", "is for single tenants; all have: realm serve --wasm")
        if defaults.adapters:
            name = "adapter" if defaults.adapter else "adapters"
            raise self._wrong("defaults", name, "is for single tenants; all may use: realm serve --adapter")
        named = tables.get("tenants", {})
        if not isinstance(named, dict):
            raise self._wrong("tenants", "", "must be tables: [tenants.NAME]")
        for tenant in named:
            if not TENANT_ID.fullmatch(tenant):
                problem = "is not a tenant: 3 to 64 letters, digits, '-' or '_'"
                raise self._wrong(f"tenants.{tenant}", "", problem)
        return Policies(
            defaults,
            {tenant: self._policy(f"tenants.{tenant}", table, defaults) for tenant, table in named.items()},
        )

    def _policy(self, where: str, table: Any, base: Policy) -> Policy:
        if not isinstance(table, dict):
            raise self._wrong(where, "", "must be a table")
        values: dict[str, Any] = {}
        for name, value in table.items():
            if name in _NUMBERS:
                if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
                    raise self._wrong(where, name, f"must be a whole number from 1 to 10^12, not {value!r}")
                values[name] = value
            elif name == "guest":
                if not isinstance(value, str) or not value:
                    raise self._wrong(where, name, "must be the path of a .wasm file")
                values[name] = self._path.parent / value
            elif name in _OTHERS:
                values[name] = self._adapters(where, name, value)
            else:
                known = ", ".join([*_NUMBERS, *_OTHERS])
                raise self._wrong(where, name, f"is not known; there are {known}")
        if "adapter" in values:
            values["adapters"] = values.get("adapters", frozenset()) | {values["adapter"]}
        policy = replace(base, **values)
        if policy.requests_burst and not policy.requests_per_minute:
            raise self._wrong(where, "requests_burst", "needs requests_per_minute")
        return policy

    def _adapters(self, where: str, name: str, value: Any) -> str | frozenset[str]:
        """One name, or with `adapters` a list of them."""
        names = value if name == "adapters" else [value]
        if not isinstance(names, list) or not all(isinstance(one, str) and one for one in names):
            what = "a list of adapters" if name == "adapters" else "an adapter"
            raise self._wrong(where, name, f"must be {what}, as realm serve --adapter gives them")
        return frozenset(names) if name == "adapters" else str(value)

    def _wrong(self, table: str, name: str, problem: str) -> PolicyError:
        line = self._line(table, name)
        at = f"{self._path}, line {line}" if line else str(self._path)
        return PolicyError(f"{at}: {'.'.join(filter(None, (table, name)))} {problem}")

    def _line(self, table: str, name: str) -> int | None:
        """Where `name` stands in `table`, or else the table, as far as the file is written the usual way."""
        inside, found = "", None
        for number, line in enumerate(self._lines, 1):
            if header := _HEADER.match(line):
                inside = ".".join(part.strip(" \t\"'") for part in header[1].split("."))
                found = number if inside == table else found
            elif key := _KEY.match(line):
                whole = f"{inside}.{key[1]}" if inside else key[1]
                if whole == (f"{table}.{name}" if name else table):
                    return number
        return found
