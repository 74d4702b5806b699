"""Whether guests can wait on fibers here: asked once, before any guest does.

The bindings know nothing of the functions that `_fibers` calls, so only trying shows whether the installed
library passes, keeps and drops things as it is believed to.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextlib import closing

import wasmtime

from realm_abi import _fibers, _wasmtime
from realm_abi._epochs import EpochClock
from realm_abi.guard import Raw
from realm_abi.steps import Steps, finish

log = logging.getLogger(__name__)

_GUEST = """(module
  (import "env" "probe" (func $probe (param i32 f32 i32) (result i32)))
  (func (export "go") (param i32) (result i32)
    (call $probe (local.get 0) (f32.const -0.5) (i32.const -2)))
  (func (export "spin") (param i32) (result i32) (loop br 0) unreachable))"""
_PARAMS = ("i32", "f32", "i32")
_ARGUMENT, _ANSWER, _TRAP, _ERROR, _TURNS = 0x7654_3210, -3, "a trap", "an error", 3


@functools.cache
def fibers_work() -> bool:
    """Whether a `Runtime` can have fibers. If not, the log says why."""
    reason = _fibers.missing() or _tried()
    if reason:
        log.warning("guests run on threads of their own, not on fibers: %s", reason)
    return not reason


def _tried() -> str:
    """What does not behave as it should, or nothing."""
    trials: dict[str, Callable[[_Guest], bool]] = {
        "an answer at once": lambda guest: guest.outcome(lambda: _ANSWER) == _ANSWER,
        "an answer that comes later": lambda guest: guest.outcome(lambda: _later(_ANSWER)) == _ANSWER,
        "a trap at once": lambda guest: _TRAP in str(guest.outcome(lambda: _TRAP)),
        "a trap that comes later": lambda guest: _TRAP in str(guest.outcome(lambda: _later(_TRAP))),
        "a guest that is dropped": lambda guest: guest.dropped() and guest.outcome(lambda: 1) == 1,
        "turns and an error": lambda guest: _ERROR in str(guest.outcome()) and guest.turns == _TURNS,
    }
    for name, trial in trials.items():
        try:
            if not trial(_Guest()):
                return f"{name}: not as it should be"
        except Exception as error:
            return f"{name}: {type(error).__name__}"
    return ""


def _later(answer: int | str) -> Steps[int | str]:
    yield None
    return answer


class _Guest:
    """The module above in a store of its own, entered on fibers only."""

    def __init__(self) -> None:
        config = wasmtime.Config()
        config.epoch_interruption = True
        engine = wasmtime.Engine(config)
        self.turns = 0
        self._clock = EpochClock(engine, 0.001)
        self._store = wasmtime.Store(engine)
        self._ticking = _wasmtime.on_every_epoch(self._store, self._overdue, yields=True)
        self._mailbox = _fibers.Mailbox(lambda _since: None)
        self._seen: list[list[Raw]] = []
        self._answer: Callable[[], _fibers.Started] = lambda: _ANSWER
        linker, functype = wasmtime.Linker(engine), _wasmtime.new_functype(_PARAMS)
        self._kept = _fibers.define(linker, "env", "probe", _PARAMS, functype, self._probe, self._mailbox)
        module = wasmtime.Module(engine, _GUEST)
        started = finish(_fibers.instantiate(linker, self._store, module, self._mailbox))
        self._exports = started.exports(self._store)

    def outcome(self, answer: Callable[[], _fibers.Started] | None = None) -> int | Exception:
        """What the guest answers, or how it ends, when its import answers that; without one it spins."""
        try:
            with self._clock:
                answered = finish(self._steps("go" if answer else "spin", answer or self._answer))
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            return error
        if self._seen != [[_ARGUMENT, -0.5, -2]]:
            raise ValueError(f"the import got {self._seen}")
        return answered - (answered >> 31 << 32)

    def dropped(self) -> bool:
        """Whether the guest can be given up where it waits."""
        with closing(self._steps("go", lambda: _later(_ANSWER))) as steps:
            next(steps)
        return self._mailbox.steps is None

    def _steps(self, name: str, answer: Callable[[], _fibers.Started]) -> Steps[int]:
        function = self._exports[name]
        assert isinstance(function, wasmtime.Func)
        self._seen, self._answer = [], answer
        return _fibers.call(self._store, function, [_ARGUMENT], self._mailbox)

    def _probe(self, raw: list[Raw]) -> _fibers.Started:
        self._seen.append(raw)
        return self._answer()

    def _overdue(self) -> str:
        self.turns += 1
        return _ERROR if self.turns == _TURNS else ""
