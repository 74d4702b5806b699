"""Faults on purpose: what the host does wrong, or what goes wrong under it, at a known call.

A `FaultPlan` is frozen data, so that hypothesis can draw it, a report can print it and a run can be repeated.
What an action does to a call is in `realm_mocks.host.inject`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Return:
    """The call does nothing and returns `value`, usually an error code."""

    value: int


@dataclass(frozen=True)
class Stop:
    """The call works and then asks the guest to stop (result 1): for emit and stream_token."""


@dataclass(frozen=True)
class Cancel:
    """This call and every later one answers `cancelled`; only freeing a session still works."""


@dataclass(frozen=True)
class Trap:
    """The call never returns: the guest is trapped inside it."""

    message: str = "trapped on purpose"


@dataclass(frozen=True)
class Delay:
    """The call takes this much longer."""

    seconds: float


@dataclass(frozen=True)
class Grow:
    """The guest's memory grows by `pages` of 64 KiB before the call, which old views do not show."""

    pages: int = 1


@dataclass(frozen=True)
class ShortWrite:
    """Only the first `keep` elements of the output are written; the result says so too where it is a count.

    With `honest=False` the result still claims all: what a guest can only notice by its nonsense.
    """

    keep: int
    honest: bool = True


@dataclass(frozen=True)
class Overlong:
    """The result claims `extra` more than was written, perhaps more than the guest has room for."""

    extra: int


@dataclass(frozen=True)
class Poison:
    """The logits of `tokens` (all of them when None) become `value`."""

    value: Literal["nan", "inf", "-inf"]
    tokens: tuple[int, ...] | None = None


Action = Return | Stop | Cancel | Trap | Delay | Grow | ShortWrite | Overlong | Poison


@dataclass(frozen=True)
class Fault:
    """One action at the `nth` call (from 1) of `function`, or of anything when that is None."""

    action: Action
    function: str | None = None
    nth: int = 1

    def __post_init__(self) -> None:
        if self.nth < 1:
            raise ValueError(f"calls are counted from 1, not {self.nth}")

    def hits(self, function: str, nth: int, nth_of_any: int) -> bool:
        """Whether this call is meant."""
        if self.function is None:
            return self.nth == nth_of_any
        return self.function == function and self.nth == nth

    def __str__(self) -> str:
        return f"{self.action} at call {self.nth} of {self.function or 'any'}"


@dataclass(frozen=True)
class FaultPlan:
    """The faults of one run; those of one call act in the order given."""

    faults: tuple[Fault, ...] = ()

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.faults)

    def at(self, function: str, nth: int, nth_of_any: int) -> tuple[Fault, ...]:
        """The faults that this call meets."""
        return tuple([fault for fault in self.faults if fault.hits(function, nth, nth_of_any)])
