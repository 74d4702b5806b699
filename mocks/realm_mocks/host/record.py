"""What a guest did: its host calls in order, as values that tests compare and people read."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal, overload

from realm_abi.errors import ErrorCode

TEXT_SHOWN = 32
IDS_SHOWN = 8

_ERRORS = {int(code): code for code in ErrorCode}


def digest(data: bytes | memoryview) -> str:
    """A short name for some bytes: equal digests, equal bytes."""
    return blake2b(data, digest_size=6).hexdigest()


@dataclass(frozen=True)
class Window:
    """A piece of guest memory that a call handed over: room for `count` elements at byte `offset`.

    `digest` is of an input's bytes before the call and of an output's after it.
    """

    name: str
    direction: Literal["in", "out"]
    offset: int
    count: int
    nbytes: int
    digest: str

    def __str__(self) -> str:
        arrow = "<-" if self.direction == "in" else "->"
        return f"{self.name}{arrow}[{self.count}]@{self.offset:#x}:{self.digest}"


@dataclass(frozen=True)
class Call:
    """One host call.

    `index` counts all calls of a run from 0, `nth` those of this function from 1. `arguments` are the raw
    values that came over the ABI, under the contract's names; `windows` what pointers meant (none where the
    guard refused the call); `text` and `ids` the contents of an input string and of an input token array.
    `result` is what the guest got, None where the host trapped it. `guest_ns` is the guest's time since the
    call before, `host_ns` that of the call.
    """

    index: int
    function: str
    nth: int
    arguments: dict[str, int | float]
    windows: tuple[Window, ...]
    result: int | None
    text: str | None = None
    ids: tuple[int, ...] | None = None
    faults: tuple[str, ...] = ()
    guest_ns: int = 0
    host_ns: int = 0

    @property
    def error(self) -> ErrorCode | None:
        """The error that the guest was told, or None."""
        return None if self.result is None else _ERRORS.get(self.result)

    def window(self, name: str) -> Window:
        """The window of this name; `KeyError` when the function has none."""
        for window in self.windows:
            if window.name == name:
                return window
        raise KeyError(f"{self.function} has no window {name!r}")

    def __str__(self) -> str:
        parts = [f"{name}={value}" for name, value in self.arguments.items()]
        parts += [str(window) for window in self.windows]
        if self.ids is not None:
            more = ", …" if len(self.ids) > IDS_SHOWN else ""
            parts.append(f"ids=[{', '.join(map(str, self.ids[:IDS_SHOWN]))}{more}]")
        if self.text is not None:
            shown = self.text if len(self.text) <= TEXT_SHOWN else self.text[:TEXT_SHOWN] + "…"
            parts.append(f"text={shown!r}")
        result = "trap" if self.result is None else self.error.name if self.error else str(self.result)
        faults = f"  !! {', '.join(self.faults)}" if self.faults else ""
        return f"#{self.index:<4} {self.function}({', '.join(parts)}) = {result}{faults}"


class Trace(Sequence[Call]):
    """All calls of one run, in order."""

    def __init__(self, calls: Sequence[Call] = ()) -> None:
        self._calls = list(calls)

    @overload
    def __getitem__(self, index: int) -> Call: ...
    @overload
    def __getitem__(self, index: slice) -> Trace: ...
    def __getitem__(self, index: int | slice) -> Call | Trace:
        return Trace(self._calls[index]) if isinstance(index, slice) else self._calls[index]

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls)

    def append(self, call: Call) -> None:
        """Adds the next call."""
        self._calls.append(call)

    @property
    def names(self) -> list[str]:
        """The functions called, in order."""
        return [call.function for call in self._calls]

    @property
    def counts(self) -> Counter[str]:
        """How often each function was called."""
        return Counter(self.names)

    def of(self, function: str) -> list[Call]:
        """The calls of one function, in order."""
        return [call for call in self._calls if call.function == function]

    @property
    def guest_ns(self) -> int:
        """The guest's own time between its calls, in nanoseconds."""
        return sum(call.guest_ns for call in self._calls)

    def as_dicts(self, *, times: bool = True) -> list[dict[str, Any]]:
        """Plain data, NaN and infinities as text; without `times` two runs of the same thing are equal."""
        rows = [asdict(call) for call in self._calls]
        for row in rows:
            row["arguments"] = {name: _plain(value) for name, value in row["arguments"].items()}
            if not times:
                del row["guest_ns"], row["host_ns"]
        return rows

    def to_json(self, *, times: bool = True) -> str:
        """The calls as a JSON array of objects."""
        return json.dumps(self.as_dicts(times=times), ensure_ascii=False, indent=1)

    def __str__(self) -> str:
        return "\n".join(map(str, self._calls))


def _plain(value: int | float) -> int | float | str:
    return value if math.isfinite(value) else str(value)
