"""Guests that are asked what another was asked, and answered what that was answered.

A guest's only way out is a host call. So a guest that makes call for call what the recorded one made, with
the same raw values and the same bytes in every window, is in the same run, and is answered from the record,
which takes a tenth of the time. At the first difference the record is of no more use. A case in which a
guest followed the record to its end has the verdict that it had then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from realm_abi.contract import Function, load_contract
from realm_abi.errors import AbiError
from realm_abi.guard import Bytes, Guarded, Memory, Raw
from realm_abi.hostapi import HandleKind, HostTrap
from realm_abi.sandbox import GuestFault, GuestModule, Instance, Runtime

from realm_harness.guestsuite.recording import Piece, RawCall, Request, Take, comparable, told


class Nobody:
    """A host without functions: the record answers."""

    def dims(self, kind: HandleKind, handle: int, /) -> Mapping[str, int]:
        """Nothing is known of any model."""
        del kind, handle
        return {}


class Player:
    """Answers an instance from a record; `lost` as soon as the guest does something else."""

    def __init__(self) -> None:
        self.calls: list[RawCall] = []
        self.place = 0
        self.lost = False
        self.grow: Callable[[int], object] = lambda size: None

    def expect(self, calls: list[RawCall]) -> None:
        """The next request begins."""
        self.calls, self.place = calls, 0

    @property
    def whole(self) -> bool:
        """Whether the guest made every call of the record and no other."""
        return not self.lost and self.place == len(self.calls)

    def wrap(self, function: Function, _guarded: Guarded) -> Guarded:
        """Stands in for a host function."""
        # What a struct points to is seen by the host, but is in no window.
        opaque = any(param.kind == "struct" for param in function.params)

        def answer(memory: Memory, *raw: Raw) -> int:
            due = self._next()
            data = memory.data()
            known = due.function == function.name and due.sizes[0] == len(data) and not opaque
            if not known or due.raw != comparable(function, raw) or not holds(data, due.before):
                self._lose()
            return self._play(due, memory)

        return answer

    def _play(self, call: RawCall, memory: Memory) -> int:
        """Does to the memory what the call did."""
        if call.sizes[1] > call.sizes[0]:
            self.grow(call.sizes[1])
        data = memory.data()
        for start, written in call.after:
            data[start : start + len(written)] = np.frombuffer(written, np.uint8)
        if isinstance(call.result, str):
            raise HostTrap(call.result)
        return call.result

    def _next(self) -> RawCall:
        if self.place == len(self.calls):
            self._lose()
        self.place += 1
        return self.calls[self.place - 1]

    def _lose(self) -> None:
        self.lost = True
        raise HostTrap("the record has another call here")


def holds(memory: Bytes, pieces: tuple[Piece, ...]) -> bool:
    """Whether the bytes lie where they did."""
    return all(memory[start : start + len(data)].tobytes() == data for start, data in pieces)


def follows(runtime: Runtime, module: GuestModule, take: Take, seconds: float) -> bool:
    """Whether a guest does what the recorded one did. `seconds` is all that it may compute between calls."""
    player = Player()
    limits = replace(take.limits, guest_seconds=min(seconds, take.limits.guest_seconds))
    try:
        instance = runtime.instantiate(module, Nobody(), limits, wrap=player.wrap)
    except GuestFault as fault:
        return bool(take.start) and str(fault) == take.start
    player.grow = lambda size: instance.memory.grow_to(size, load_contract().page_bytes)
    try:
        return not take.start and all(_repeats(instance, player, request) for request in take.requests)
    finally:
        instance.close()


def _repeats(instance: Instance, player: Player, request: Request) -> bool:
    player.expect(request.calls)
    generate: Callable[..., object] = (
        instance.generate_v1 if instance.module.version == 1 else instance.generate_v2
    )
    ending: object
    try:
        ending = generate(*request.arguments, **request.options)
    except (AbiError, GuestFault) as error:
        ending = told(error)
    same = ending == request.ending and len(instance.memory.data()) == request.memory_bytes
    return player.whole and same
