"""What a guest was asked in a case and answered by its host, written down call for call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, Unpack

from realm_abi.contract import Function
from realm_abi.errors import AbiError
from realm_abi.guard import Bytes, Guard, Guarded, Memory, Raw, Window
from realm_abi.hostapi import Dimensions, HostTrap
from realm_abi.requests import OptionsV1, OptionsV2
from realm_abi.sandbox import GuestFault, GuestModule, Instance, Limits, Runtime, Wrap
from realm_abi.steps import finish
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
            noted = Noted(self._engine, self._clock, module, host, take.limits, watched, take)
            finish(noted.start())
            return noted
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
