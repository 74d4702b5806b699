"""The raw C surface of wasmtime that the sandbox uses, fenced off in one file.

The package's own wrappers keep the exception that a callback raised in a process-wide variable and raise it
in whichever thread leaves wasm next, so with two threads one guest's failure may surface in the other's
request; and they convert every value through a tagged union, 13 us a call instead of 0.4. Here a callback
gets the values as they lie, and never lets an exception pass.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import wasmtime
from wasmtime import _ffi as ffi

from realm_abi.guard import Bytes, Raw

I32_PER_VALUE = ctypes.sizeof(ffi.wasmtime_val_raw_t) // ctypes.sizeof(ctypes.c_int32)

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int32), ctypes.c_size_t
)
_EpochCallback = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.POINTER(ffi.wasmtime_context_t),
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_uint64),
    ctypes.POINTER(ffi.wasmtime_update_deadline_kind_t),
)
# Asked in every host call; declared like this it takes a third of the time that the package's own one does.
# It only reads a number, so it keeps the GIL.
_size_of_memory = ctypes.PYFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)(
    ("wasmtime_memory_data_size", ffi.dll)
)
_F32, _I32 = struct.Struct("<f"), struct.Struct("<i")
UPDATE_CONTINUE, UPDATE_YIELD = 0, 1
_NO_FINALIZER = ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))

HostCall = Callable[[list[Raw]], int | str]
"""Takes the raw values; answers the i32 result, or the message of a trap. Must not raise."""


class GuestMemory:
    """A guest's memory as bytes: `realm_abi.guard.Memory`."""

    def __init__(self, store: wasmtime.Store, memory: wasmtime.Memory) -> None:
        self._store = store
        self._memory = memory
        self._place = (address_of(store._context()), ctypes.addressof(memory._memory))
        self._bytes: Bytes = np.empty(0, np.uint8)

    def data(self) -> Bytes:
        """All of the memory [size] u8. The view is made anew when the memory grew: growing may move it."""
        size = _size_of_memory(*self._place)
        if size != len(self._bytes):
            buffer = self._memory.get_buffer_ptr(self._store)
            # A view that somebody keeps must not outlive the memory that it shows.
            buffer.store = self._store  # type: ignore[attr-defined]
            self._bytes = np.frombuffer(memoryview(buffer), np.uint8)
        return self._bytes

    def grow_to(self, size: int, page_bytes: int) -> bool:
        """Grows the memory to at least `size` bytes; whether it could."""
        missing = -(-(size - self._memory.data_len(self._store)) // page_bytes)
        try:
            if missing > 0:
                self._memory.grow(self._store, missing)
        except wasmtime.WasmtimeError:
            return False
        return True


def define(
    linker: wasmtime.Linker,
    module: str,
    name: str,
    params: Sequence[str],
    functype: wasmtime.FuncType,
    call: HostCall,
) -> object:
    """Defines an import whose calls go to `call`; what comes back has to live as long as the store.

    `functype` says to wasmtime what `params` say here. It must be of the linker's engine or have been used
    with none: another engine's aborts the process. To take a module's own costs nothing.
    """
    floats = [index for index, kind in enumerate(params) if kind == "f32"]
    end = len(params) * I32_PER_VALUE

    def entry(_env: Any, _caller: Any, values: Any, _count: int) -> int:
        # ctypes finds one value in an empty slice with a step.
        raw = values[0:end:I32_PER_VALUE] if end else []
        for index in floats:
            raw[index] = as_float(raw[index])
        answer = call(raw)
        if isinstance(answer, str):
            return address_of(wasmtime.Trap(answer)._consume())
        values[0] = answer
        return 0

    callback = _Callback(entry)
    error = ffi.wasmtime_linker_define_func_unchecked(
        linker.ptr(),
        *named(module),
        *named(name),
        functype.ptr(),
        ctypes.cast(callback, ffi.wasmtime_func_unchecked_callback_t),
        None,
        _NO_FINALIZER,
    )
    if error:
        raise wasmtime.WasmtimeError._from_ptr(error)
    return callback


def on_every_epoch(store: wasmtime.Store, overdue: Callable[[], str], *, yields: bool) -> object:
    """Asks `overdue`, which must not raise, at every tick of the epoch in which the store's guest computes.

    An answer that is not empty ends the guest, with that message. Otherwise a guest that `yields`, which has
    to be on a fiber, ends its turn there, and another goes on.

    A deadline that is set shorter while the guest runs would not do: compiled code keeps the deadline that it
    has read until that has passed. What comes back has to live as long as the store.
    """

    on = UPDATE_YIELD if yields else UPDATE_CONTINUE

    def tick(_context: Any, _data: Any, delta: Any, kind: Any) -> int:
        message = overdue()
        if message:
            return address_of(ffi.wasmtime_error_new(ctypes.create_string_buffer(message.encode())))
        delta[0] = 1
        kind[0] = on
        return 0

    callback = _EpochCallback(tick)
    ffi.wasmtime_store_epoch_deadline_callback(store.ptr(), callback, None, _NO_FINALIZER)
    store.set_epoch_deadline(1)
    return callback


def call(store: wasmtime.Store, function: wasmtime.Func, *arguments: int) -> int:
    """Calls an export of i32s that answers one, here as a u32. Raises Trap or WasmtimeError."""
    values = (ffi.wasmtime_val_raw_t * max(1, len(arguments)))()
    for value, argument in zip(values, arguments, strict=False):
        value.i32 = argument
    trap = ctypes.POINTER(ffi.wasm_trap_t)()
    error = ffi.wasmtime_func_call_unchecked(
        store._context(), ctypes.byref(function._func), values, len(values), ctypes.byref(trap)
    )
    if error:
        raise wasmtime.WasmtimeError._from_ptr(error)
    if trap:
        raise wasmtime.Trap._from_ptr(trap)
    return int(values[0].i32) & 0xFFFF_FFFF


def address_of(pointer: Any) -> int:
    """Where a pointer points, or 0."""
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def as_float(bits: int) -> float:
    """The f32 of these bits."""
    value: float = _F32.unpack(_I32.pack(bits))[0]
    return value


def new_functype(params: Sequence[str]) -> wasmtime.FuncType:
    """The type of an import with these parameters; it belongs to the engine that it is used with first."""
    types = {"i32": wasmtime.ValType.i32, "f32": wasmtime.ValType.f32}
    return wasmtime.FuncType([types[kind]() for kind in params], [wasmtime.ValType.i32()])


@functools.cache
def named(text: str) -> tuple[Any, int]:
    """A name as the library takes it: bytes that stay, and how many."""
    encoded = text.encode()
    return ctypes.create_string_buffer(encoded), len(encoded)
