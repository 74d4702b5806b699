"""Stands between guest and host functions: records every call, does the planned faults, watches the canaries.

It works on raw parameters, outside the guard, and so sees what the guest really passed and gives it results
that no host function could. The guard and the functions behind it are the ones that a real host has.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from realm_abi.contract import Function
from realm_abi.errors import ErrorCode
from realm_abi.guard import MAX_RESULT, Guard, Guarded, Memory, Raw
from realm_abi.hostapi import HostTrap
from realm_abi.structs import element_size

from realm_mocks.host import faults as fault
from realm_mocks.host import windows
from realm_mocks.host.canaries import Mode, Stain, changed, remember
from realm_mocks.host.faults import Fault, FaultPlan
from realm_mocks.host.findings import Findings
from realm_mocks.host.functions import HostFunctions
from realm_mocks.host.record import Call, Trace

MAX_CALLS = 200_000
"""Host calls of one request, unless the mock says otherwise."""

GRACE_CALLS = 100
"""Further calls that are answered limit_exceeded, before the guest is trapped."""

ActionT = TypeVar("ActionT", bound=fault.Action)


@dataclass
class Log:
    """All that was seen in one run."""

    findings: Findings = field(default_factory=Findings)
    trace: Trace = field(default_factory=Trace)
    met: list[Fault] = field(default_factory=list)
    stains: list[Stain] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    cancelled: bool = False
    resumed: int = field(default_factory=time.perf_counter_ns)


class Interceptor:
    """Wraps guarded host functions; `begin` starts the log of a new run."""

    def __init__(
        self,
        host: HostFunctions,
        plan: FaultPlan,
        canaries: Mode,
        grow: Callable[[int], None],
        max_calls: int = MAX_CALLS,
    ) -> None:
        self.host = host
        self.max_calls = max_calls
        self.canaries: Mode = canaries
        self.grow = grow
        self.log = Log()
        self._plan = plan

    def begin(self, findings: Findings) -> Log:
        """A fresh log, which the calls from now on go to."""
        self.log = Log(findings)
        return self.log

    def wrap(self, function: Function, guarded: Guarded) -> Guarded:
        """The same host function, seen and meddled with."""
        guard = Guard(function, self.host)

        def intercepted(memory: Memory, *raw: Raw) -> int:
            return _Passage(self, function, guarded, memory, raw).go(guard)

        return intercepted

    def faults(self, function: str) -> tuple[Fault, ...]:
        """Counts a call and answers what it meets."""
        log = self.log
        log.counts[function] += 1
        log.calls += 1
        return self._plan.at(function, log.counts[function], log.calls)


class _Passage:
    """One call on its way through: `go` looks at it, makes it with its faults, and writes it down."""

    def __init__(
        self, way: Interceptor, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]
    ) -> None:
        self.started = time.perf_counter_ns()
        self.way, self.log, self.function = way, way.log, function
        self.guarded, self.memory, self.raw = guarded, memory, raw
        self.met = way.faults(function.name)
        # What the host function itself answered, before any fault changed it; it wrote nothing unless it was
        # called.
        self.honest = int(ErrorCode.internal)

    def go(self, guard: Guard) -> int:
        """Makes the call and answers what the guest gets."""
        self.log.findings.before_call(self.function.name, self.raw)
        for growth in self._planned(fault.Grow):
            self.way.grow(growth.pages)
        self._look(guard)
        result: int | None = None
        try:
            result = self._answer()
            return result
        finally:
            self._note(result)

    def _planned(self, kind: type[ActionT]) -> list[ActionT]:
        if not self.met:
            return []
        return [met.action for met in self.met if isinstance(met.action, kind)]

    def _look(self, guard: Guard) -> None:
        before = self.memory.data()
        self.checked = windows.located(guard, before, self.raw)
        inputs, self.outputs = windows.parted(self.checked)
        self.text, self.ids = windows.contents(inputs, before)
        self.inputs = windows.record_inputs(inputs, before)
        spoilt = self.outputs if self.met else []  # a short write puts it back
        self.old = [before[window.start : window.stop].copy() for window in spoilt]
        extents = [windows.extent(window) for window in self.outputs]
        self.snapshot = remember(self.way.canaries, before, extents)

    def _answer(self) -> int:
        for delay in self._planned(fault.Delay):
            time.sleep(delay.seconds)
        for trap in self._planned(fault.Trap):
            raise HostTrap(trap.message)
        self.log.cancelled |= bool(self._planned(fault.Cancel))
        if self.log.cancelled and not self.function.cleanup:
            return int(ErrorCode.cancelled)
        if self.log.calls > self.way.max_calls and not self.function.cleanup:
            if self.log.calls > self.way.max_calls + GRACE_CALLS:
                raise HostTrap(f"it goes on after {self.way.max_calls} host calls in one request")
            return int(ErrorCode.limit_exceeded)
        for instead in self._planned(fault.Return):
            self.log.findings.tampered |= instead.value >= 0
            return instead.value
        self.honest = self._call()
        return self.honest if self.honest < 0 else self._meddle(self.honest)

    def _call(self) -> int:
        for poison in self._planned(fault.Poison):
            self.way.host.poison = poison
        try:
            return self.guarded(self.memory, *self.raw)
        finally:
            self.way.host.poison = None

    def _meddle(self, result: int) -> int:
        for short in self._planned(fault.ShortWrite):
            result = self._shorten(short, result)
            self.log.findings.tampered = True
        for overlong in self._planned(fault.Overlong):
            result = min(result + overlong.extra, MAX_RESULT)
            self.log.findings.tampered = True
        if self._planned(fault.Stop):
            self.log.findings.tampered |= self.function.result != "stop"
            return 1
        return result

    def _shorten(self, short: fault.ShortWrite, result: int) -> int:
        """Puts back what was in the output behind the first elements; answers the honest result."""
        memory = self.memory.data()
        extents = windows.written(self.function, self.checked, self.outputs, result, self.way.host)
        for window, old, extent in zip(self.outputs, self.old, extents, strict=True):
            size = element_size(window.param.element)
            kept = min(short.keep * size, extent.stop - extent.start)
            memory[window.start + kept : window.stop] = old[kept:]
            if short.honest and extent.stop > extent.start:
                result = result * kept // (extent.stop - extent.start)
        return result

    def _note(self, result: int | None) -> None:
        after = self.memory.data()
        host, function = self.way.host, self.function
        allowed = windows.written(function, self.checked, self.outputs, self.honest, host)
        index = len(self.log.trace)
        if stained := changed(self.snapshot, after, allowed):
            self.log.stains.append(Stain(function.name, index, stained[0], len(stained)))
        self.log.met.extend(self.met)
        self.log.findings.after_call(function.name, result, provoked=bool(self.met))
        now = time.perf_counter_ns()
        self.log.trace.append(
            Call(
                index=index,
                function=function.name,
                nth=self.log.counts[function.name],
                arguments=dict(zip(function.signature, self.raw, strict=True)),
                windows=(*self.inputs, *windows.record_outputs(self.outputs, allowed, after)),
                result=result,
                text=self.text,
                ids=self.ids,
                faults=tuple([str(met.action) for met in self.met]),
                guest_ns=self.started - self.log.resumed,
                host_ns=now - self.started,
            )
        )
        self.log.resumed = time.perf_counter_ns()
