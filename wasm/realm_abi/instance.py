"""One guest at work: a module's instance in a store of its own, its host calls, its faults."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, Unpack

import numpy as np
import wasmtime

from realm_abi import _wasmtime
from realm_abi.contract import Function, load_contract
from realm_abi.errors import AbiError, ErrorCode, FinishReason
from realm_abi.guard import MAX_RESULT, Guarded, Raw, bind, fit, unsupported
from realm_abi.hostapi import Dimensions, HostTrap
from realm_abi.requests import ALIGNMENT, OptionsV1, OptionsV2, request_v1, request_v2

if TYPE_CHECKING:
    from realm_abi._epochs import EpochClock
    from realm_abi.sandbox import GuestModule

V1_PROMPT_OFFSET = 1 << 20
"""Where a host puts the prompt of a guest that has no allocator."""

SCAN_BYTES = 1 << 16
TABLES, TABLE_ELEMENTS = 8, 10_000

T = TypeVar("T")

FaultKind = Literal["trap", "deadline", "memory", "lied"]
Wrap = Callable[[Function, Guarded], Guarded]
"""Stands between the sandbox and a guarded host function: to record, to inject faults, to watch windows."""


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
    """From the first host call that was answered `cancelled` to its end."""


class Instance:
    """Made by `Runtime.instantiate`. One thread at a time runs it; `cancel` may come from any.

    Generations may follow one another; a guest that has faulted should not be used again.
    """

    def __init__(
        self,
        engine: wasmtime.Engine,
        clock: EpochClock,
        module: GuestModule,
        host: Dimensions,
        limits: Limits,
        wrap: Wrap | None,
    ) -> None:
        if module.memory_bytes > limits.memory_bytes:
            raise GuestFault(
                "memory", f"it starts with {module.memory_bytes} bytes, the limit is {limits.memory_bytes}"
            )
        self.module = module
        self.limits = limits
        self._clock = clock
        self._busy = threading.Lock()
        self._cancelled = threading.Event()
        self._grace_began = False
        self._last_answer = 0
        self._trap_message = ""
        self._escaped: BaseException | None = None
        self._memory: _wasmtime.GuestMemory | None = None
        self._store = wasmtime.Store(engine)
        self._store.set_limits(limits.memory_bytes, TABLE_ELEMENTS, instances=1, tables=TABLES, memories=1)
        linker = wasmtime.Linker(engine)
        self._callbacks = [self._define(linker, name, host, wrap) for name in module.imports]
        started = self._run(lambda: linker.instantiate(self._store, module.compiled))
        self._functions: dict[str, wasmtime.Func] = {}
        for name, item in started.exports(self._store)._extern_map.items():
            if isinstance(item, wasmtime.Func):
                self._functions[name] = item
            elif isinstance(item, wasmtime.Memory) and name == "memory":
                self._memory = _wasmtime.GuestMemory(self._store, item)
        if module.version == 1:
            self._call("realm_new")

    @property
    def memory(self) -> _wasmtime.GuestMemory:
        """The guest's memory; its views show what the guest does."""
        if self._memory is None:
            raise HostTrap("an import was called before the module had started")
        return self._memory

    def generate_v1(self, prompt: str, model_id: int, options: OptionsV1 | None = None) -> bytes:
        """Runs a v1 guest; answers its text without the NUL.

        Raises AbiError with the code of the last host call if the guest answers 0, GuestFault if it breaks,
        ValueError for options that do not fit their fields.
        """
        size = len(request_v1(0, prompt, options).data)
        base = self._allocate(size) if "realm_alloc" in self._functions else self._claim(size)
        placed = request_v1(base, prompt, options)
        self._write(base, placed.data)
        self._last_answer = 0
        offset = self._call("generate", placed.prompt_ptr, placed.prompt_len, model_id, placed.options_ptr)
        if offset == 0:
            code = self._last_answer if self._last_answer in set(ErrorCode) else ErrorCode.internal
            raise AbiError(ErrorCode(code), "the guest answered 0")
        return self._text_at(offset)

    def generate_v2(self, prompt: str, **options: Unpack[OptionsV2]) -> int:
        """Runs a v2 guest; answers its finish reason, or its error code unchanged.

        Raises GuestFault if the guest breaks, ValueError for options that do not fit their fields.
        """
        base = self._allocate(len(request_v2(0, prompt, options)))
        self._write(base, request_v2(base, prompt, options))
        answer = self._call("generate", base)
        answer -= (answer >> 31) << 32
        if answer not in set(FinishReason) | set(ErrorCode):
            raise GuestFault("lied", f"generate answered {answer}: no finish reason and no error")
        return answer

    def cancel(self) -> None:
        """Ends the generation: host calls answer `cancelled`; a guest that goes on is interrupted.

        A host function that waits is woken by whoever made it wait, not by this.
        """
        self._cancelled.set()

    def close(self) -> None:
        """Lets go of the guest; its memory is freed as soon as nobody holds a view of it."""
        with self._busy:
            self._functions.clear()
            self._callbacks.clear()

    # ------------------------------------------------------------------------------------- to the guest

    def _call(self, name: str, *arguments: int) -> int:
        if name not in self._functions:
            raise RuntimeError("the instance is closed" if not self._functions else f"it exports no {name}")
        function = self._functions[name]
        return self._run(lambda: _wasmtime.call(self._store, function, *arguments))

    def _run(self, enter: Callable[[], T]) -> T:
        """Enters the guest and turns its ways to fail into faults of this instance."""
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("the instance is running: a host function must not call its guest")
        try:
            with self._clock:
                self._store.set_epoch_deadline(self._clock.ticks(self.limits.guest_seconds))
                return enter()
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            # wasmtime says Trap of what the guest did, and WasmtimeError of a trap that a host function made.
            if self._escaped:
                raise self._escaped from None
            raise self._fault(error) from None
        finally:
            self._busy.release()

    def _fault(self, error: wasmtime.Trap | wasmtime.WasmtimeError) -> GuestFault:
        if self._trap_message:
            return GuestFault("trap", self._trap_message)
        if isinstance(error, wasmtime.Trap) and error.trap_code is wasmtime.TrapCode.INTERRUPT:
            if self._grace_began:
                return GuestFault(
                    "deadline", f"it went on for {self.limits.grace_seconds} s after `cancelled`"
                )
            return GuestFault(
                "deadline", f"it computed for {self.limits.guest_seconds} s without a host call"
            )
        return GuestFault("trap", _line(str(error)))

    def _allocate(self, size: int) -> int:
        """Memory from the guest's own allocator."""
        base = self._call("realm_alloc", size) if size <= MAX_RESULT else 0
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

    # ------------------------------------------------------------------------------------- to the host

    def _define(self, linker: wasmtime.Linker, name: str, host: Dimensions, wrap: Wrap | None) -> object:
        contract = load_contract()
        function = contract.imports[name]
        implementation = getattr(host, name, None)
        guarded = unsupported if implementation is None else bind(function, implementation, host)
        if wrap is not None:
            guarded = wrap(function, guarded)

        def call(raw: list[Raw]) -> int | str:
            try:
                return self._answer(function, guarded, raw)
            except HostTrap as trap:
                self._trap_message = str(trap)
            except (
                BaseException
            ) as error:  # must not cross the C frames; `_run` raises it on their other side
                self._escaped = error
            return "the host ends the guest"

        return _wasmtime.define(linker, contract.import_module, name, function.wasm_params, call)

    def _answer(self, function: Function, guarded: Guarded, raw: list[Raw]) -> int:
        if self._cancelled.is_set() and not function.cleanup:
            answer = int(ErrorCode.cancelled)
        else:
            answer = guarded(self.memory, *raw)
        self._last_answer = answer
        self._arm()
        return answer

    def _arm(self) -> None:
        """Gives the guest its time to the next host call; once it is cancelled, the grace and no more."""
        if self._grace_began:
            return
        seconds = self.limits.guest_seconds
        if self._cancelled.is_set():
            self._grace_began = True
            seconds = self.limits.grace_seconds
        self._store.set_epoch_deadline(self._clock.ticks(seconds))


def _line(text: str) -> str:
    """The first line that says something, without wasmtime's backtrace."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line for line in lines if "wasm trap" in line]
    return (causes or lines or ["the guest failed"])[-1 if causes else 0]
