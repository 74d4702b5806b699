"""What a guest was asked in a case and answered by its host, so that another guest can be asked the same.

A guest's only way out is a host call. So a guest that makes call for call what the recorded one made, with
the same raw values and the same bytes in every window, is in the same run, and is answered from the record,
which takes a tenth of the time. At the first difference the record is of no more use. A case in which a
guest followed the record to its end has the verdict that it had then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, Unpack

import numpy as np
from realm_abi.contract import Function, load_contract
from realm_abi.errors import AbiError
from realm_abi.guard import Bytes, Guard, Guarded, Memory, Raw, Window
from realm_abi.hostapi import Dimensions, HandleKind, HostTrap
from realm_abi.requests import OptionsV1, OptionsV2
from realm_abi.sandbox import GuestFault, GuestModule, Instance, Limits, Runtime, Wrap
from realm_mocks.host.windows import located

Piece = tuple[int, bytes]
"""Where bytes lie, and the bytes."""


@dataclass(frozen=True, slots=True)
class RawCall:
    """One host call: what the guest passed and all that it could see of the answer.

    Attributes:
        before: the contents of all windows when the call was made.
        after: those of the output windows when it returned.
        sizes: bytes of memory before and after.
        result: what the guest got, or the words with which the host ended it.
    """

    function: str
    raw: object
    before: tuple[Piece, ...]
    after: tuple[Piece, ...]
    sizes: tuple[int, int]
    result: int | str


@dataclass
class Request:
    """One `generate`: its arguments, its host calls, how it ended, the memory that the guest had then."""

    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    calls: list[RawCall] = field(default_factory=list)
    ending: object = None
    memory_bytes: int = 0


@dataclass
class Take:
    """The life of one instance. `start` is why it did not come to be, if it did not."""

    limits: Limits
    requests: list[Request] = field(default_factory=list)
    start: str = ""


class Recorder(Runtime):
    """A runtime that notes in `takes` what happens to its instances."""

    def __init__(self) -> None:
        super().__init__()
        self.takes: list[Take] = []
        self._known: dict[bytes, bytes] = {}

    def instantiate(
        self, module: GuestModule, host: Dimensions, limits: Limits | None = None, *, wrap: Wrap | None = None
    ) -> Instance:
        """As `Runtime.instantiate`, watched."""
        take = Take(limits or Limits())
        self.takes.append(take)

        def watched(function: Function, guarded: Guarded) -> Guarded:
            return self._watched(take, Guard(function, host), wrap(function, guarded) if wrap else guarded)

        try:
            return Noted(self._engine, self._clock, module, host, take.limits, watched, take)
        except GuestFault as fault:
            take.start = str(fault)
            raise

    def _watched(self, take: Take, guard: Guard, call: Guarded) -> Guarded:
        def watched(memory: Memory, *raw: Raw) -> int:
            seen = memory.data()
            windows = [item for item in located(guard, seen, raw).values() if isinstance(item, Window)]
            before = self._pieces(windows, seen)
            result: int | str = ""
            try:
                result = call(memory, *raw)
                return result
            except HostTrap as trap:
                result = str(trap)
                raise
            finally:
                after = [window for window in windows if window.param.kind == "out"]
                take.requests[-1].calls.append(
                    RawCall(
                        guard.function.name,
                        comparable(guard.function, raw),
                        before,
                        self._pieces(after, memory.data()),
                        (len(seen), len(memory.data())),
                        result,
                    )
                )

        return watched

    def _pieces(self, windows: list[Window], memory: Bytes) -> tuple[Piece, ...]:
        """What lies in the windows; equal bytes are kept once."""
        found = [(window.start, memory[window.start : window.stop].tobytes()) for window in windows]
        return tuple([(start, self._known.setdefault(data, data)) for start, data in found])


Answer = TypeVar("Answer")


class Noted(Instance):
    """An instance whose requests are written down."""

    def __init__(self, *given: Any) -> None:
        *rest, self._take = given
        super().__init__(*rest)

    def generate_v1(self, prompt: str, model_id: int, options: OptionsV1 | None = None) -> bytes:
        """As `Instance.generate_v1`."""
        request = Request((prompt, model_id, options), {})
        return self._note(request, lambda: super(Noted, self).generate_v1(prompt, model_id, options))

    def generate_v2(self, prompt: str, **options: Unpack[OptionsV2]) -> int:
        """As `Instance.generate_v2`."""
        request = Request((prompt,), options)
        return self._note(request, lambda: super(Noted, self).generate_v2(prompt, **options))

    def _note(self, request: Request, generate: Callable[[], Answer]) -> Answer:
        self._take.requests.append(request)
        try:
            answer = generate()
            request.ending = answer
            return answer
        except (AbiError, GuestFault) as error:
            request.ending = told(error)
            raise
        finally:
            request.memory_bytes = len(self.memory.data())


def told(error: AbiError | GuestFault) -> str:
    """An ending that is none of the guest's own words."""
    return f"error {int(error.code)}" if isinstance(error, AbiError) else str(error)


def comparable(function: Function, raw: tuple[Raw, ...]) -> object:
    """Raw values that are equal where the calls are: a NaN is not equal to itself."""
    return repr(raw) if "f32" in function.wasm_params else raw


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
