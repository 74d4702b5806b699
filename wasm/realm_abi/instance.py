"""One guest at work: a module's instance in a store of its own, its host calls, its faults."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, Unpack

import numpy as np
import wasmtime

from realm_abi import _fibers, _wasmtime
from realm_abi._epochs import Allowance, EpochClock
from realm_abi._imports import Imports, Wrap
from realm_abi.contract import load_contract
from realm_abi.errors import AbiError, ErrorCode, FinishReason
from realm_abi.guard import MAX_RESULT, fit
from realm_abi.hostapi import Dimensions
from realm_abi.requests import ALIGNMENT, OptionsV1, OptionsV2, request_v1, request_v2
from realm_abi.steps import Steps, finish

if TYPE_CHECKING:
    from realm_abi.sandbox import GuestModule

V1_PROMPT_OFFSET = 1 << 20
"""Where a host puts the prompt of a guest that has no allocator."""

SCAN_BYTES = 1 << 16
TABLES, TABLE_ELEMENTS = 8, 10_000

T = TypeVar("T")

FaultKind = Literal["trap", "deadline", "memory", "lied"]


class GuestFault(Exception):
    """A guest broke: it trapped, ran too long, had not the memory, or answered what cannot be."""

    def __init__(self, kind: FaultKind, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


@dataclass(frozen=True, slots=True)
class Limits:
    """What one instance may use."""

    memory_bytes: int = 256 << 20
    """Its memory, grown or not."""
    guest_seconds: float = 2.0
    """Computing without a host call in between."""
    grace_seconds: float = 0.25
    """From its cancellation to its end."""


class Instance:
    """Made by `Runtime.instantiate`. One thread at a time runs it; `cancel` may come from any.

    Generations may follow one another; a guest that has faulted should not be used again. On a runtime with
    fibers the `..._steps` yield whenever the guest waits or has had its turn; without they take one step.
    """

    def __init__(
        self,
        engine: wasmtime.Engine,
        clock: EpochClock,
        module: GuestModule,
        host: Dimensions,
        limits: Limits,
        wrap: Wrap | None,
        *,
        fibers: bool = False,
    ) -> None:
        if module.memory_bytes > limits.memory_bytes:
            raise GuestFault(
                "memory", f"it starts with {module.memory_bytes} bytes, the limit is {limits.memory_bytes}"
            )
        self.module = module
        self.limits = limits
        self._clock = clock
        self._busy = threading.Lock()
        self._allowance = Allowance(limits.guest_seconds, limits.grace_seconds)
        self._mailbox = _fibers.Mailbox(self._allowance.rested) if fibers else None
        self._imports = Imports(self._allowance, self._mailbox)
        self._store = wasmtime.Store(engine)
        self._store.set_limits(limits.memory_bytes, TABLE_ELEMENTS, instances=1, tables=TABLES, memories=1)
        self._ticking = _wasmtime.on_every_epoch(self._store, self._imports.overdue, yields=fibers)
        self._linker = wasmtime.Linker(engine)
        self._imports.define(self._linker, module.imports, host, wrap)
        self._functions: dict[str, wasmtime.Func] = {}

    def start(self) -> Steps[None]:
        """Lets the module's start function run; before all else. Raises GuestFault if it cannot start."""
        started = yield from self._run(self._instantiate())
        for name, item in started.exports(self._store)._extern_map.items():
            if isinstance(item, wasmtime.Func):
                self._functions[name] = item
            elif isinstance(item, wasmtime.Memory) and name == "memory":
                self.memory = self._imports.memory = _wasmtime.GuestMemory(self._store, item)
        if self.module.version == 1:
            yield from self._call("realm_new")

    def generate_v1(self, prompt: str, model_id: int, options: OptionsV1 | None = None) -> bytes:
        """Runs a v1 guest; answers its text without the NUL.

        Raises AbiError with the code of the last host call if the guest answers 0, GuestFault if it breaks,
        ValueError for options that do not fit their fields.
        """
        return finish(self.generate_v1_steps(prompt, model_id, options))

    def generate_v1_steps(self, prompt: str, model_id: int, options: OptionsV1 | None = None) -> Steps[bytes]:
        """As `generate_v1`."""
        size = len(request_v1(0, prompt, options).data)
        allocates = "realm_alloc" in self._functions
        base = (yield from self._allocate(size)) if allocates else self._claim(size)
        placed = request_v1(base, prompt, options)
        self._write(base, placed.data)
        self._imports.last_answer = 0
        arguments = (placed.prompt_ptr, placed.prompt_len, model_id, placed.options_ptr)
        offset = yield from self._call("generate", *arguments)
        if offset == 0:
            code = self._imports.last_answer
            failed = code in set(ErrorCode)
            raise AbiError(ErrorCode(code) if failed else ErrorCode.internal, "the guest answered 0")
        return self._text_at(offset)

    def generate_v2(self, prompt: str, **options: Unpack[OptionsV2]) -> int:
        """Runs a v2 guest; answers its finish reason, or its error code unchanged.

        Raises GuestFault if the guest breaks, ValueError for options that do not fit their fields.
        """
        return finish(self.generate_v2_steps(prompt, **options))

    def generate_v2_steps(self, prompt: str, **options: Unpack[OptionsV2]) -> Steps[int]:
        """As `generate_v2`."""
        base = yield from self._allocate(len(request_v2(0, prompt, options)))
        self._write(base, request_v2(base, prompt, options))
        answer = yield from self._call("generate", base)
        answer -= (answer >> 31) << 32
        if answer not in set(FinishReason) | set(ErrorCode):
            raise GuestFault("lied", f"generate answered {answer}: no finish reason and no error")
        return answer

    def cancel(self) -> None:
        """Ends the generation: host calls answer `cancelled`; a guest that goes on for long is interrupted.

        A host function that waits is woken by whoever made it wait, not by this.
        """
        self._allowance.cancel()

    def close(self) -> None:
        """Lets go of the guest; its memory is freed as soon as nobody holds a view of it."""
        with self._busy:
            self._functions.clear()
            self._imports.close()

    def _call(self, name: str, *arguments: int) -> Steps[int]:
        if name not in self._functions:
            raise RuntimeError("the instance is closed" if not self._functions else f"it exports no {name}")
        return (yield from self._run(self._enter(self._functions[name], arguments)))

    def _enter(self, function: wasmtime.Func, arguments: Sequence[int]) -> Steps[int]:
        if self._mailbox:
            return (yield from _fibers.call(self._store, function, arguments, self._mailbox))
        return _wasmtime.call(self._store, function, *arguments)

    def _instantiate(self) -> Steps[wasmtime.Instance]:
        place = (self._linker, self._store, self.module.compiled)
        if self._mailbox:
            return (yield from _fibers.instantiate(*place, self._mailbox))
        return self._linker.instantiate(*place[1:])

    def _run(self, entered: Steps[T]) -> Steps[T]:
        """Enters the guest and turns its ways to fail into faults of this instance."""
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("the instance is running: a host function must not call its guest")
        self._imports.trap_message, self._imports.escaped = "", None
        try:
            with self._clock:
                self._allowance.begin()
                return (yield from entered)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            # wasmtime says Trap of what the guest did, WasmtimeError of how the host ended it.
            raise self._fault(error) from None
        finally:
            self._busy.release()

    def _fault(self, error: wasmtime.Trap | wasmtime.WasmtimeError) -> BaseException:
        if self._imports.escaped:
            return self._imports.escaped
        if self._imports.trap_message:
            return GuestFault("trap", self._imports.trap_message)
        overdue = self._allowance.overdue()
        if overdue and overdue in str(error):
            return GuestFault("deadline", overdue)
        return GuestFault("trap", _line(str(error)))

    def _allocate(self, size: int) -> Steps[int]:
        """Memory from the guest's own allocator."""
        base = (yield from self._call("realm_alloc", size)) if size <= MAX_RESULT else 0
        if base == 0:
            raise GuestFault("memory", f"realm_alloc has no {size} bytes for the request")
        try:
            fit(len(self.memory.data()), base, size, "u8", ALIGNMENT)
        except AbiError as error:
            raise GuestFault("lied", f"realm_alloc answered {base}: {error}") from None
        return base

    def _claim(self, size: int) -> int:
        """Memory at the fixed place, in a guest without an allocator."""
        end = V1_PROMPT_OFFSET + size
        if not self.memory.grow_to(end, load_contract().page_bytes):
            raise GuestFault("memory", f"its memory does not grow to {end} bytes for the request")
        return V1_PROMPT_OFFSET

    def _write(self, base: int, data: bytes) -> None:
        self.memory.data()[base : base + len(data)] = np.frombuffer(data, np.uint8)

    def _text_at(self, offset: int) -> bytes:
        """The bytes up to a NUL."""
        memory = self.memory.data()
        for start in range(offset, len(memory), SCAN_BYTES):
            zeros = np.flatnonzero(memory[start : start + SCAN_BYTES] == 0)
            if len(zeros):
                text = memory[offset : start + int(zeros[0])].tobytes()
                break
        else:
            raise GuestFault("lied", f"the text at {offset} has no end inside the memory")
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise GuestFault("lied", f"the text at {offset} is not UTF-8: {error}") from None
        return text


def _line(text: str) -> str:
    """The first line that says something, without wasmtime's backtrace."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line for line in lines if "wasm trap" in line]
    return (causes or lines or ["the guest failed"])[-1 if causes else 0]
