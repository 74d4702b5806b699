"""wasmtime's C functions for calls that run on a stack of their own, which its Python package leaves out.

wasm on such a fiber may be left in the middle of a host call and taken up again where it was, so one thread
can have a thousand guests that wait. The library exports the functions; their signatures are those of
wasmtime/async.h of the release that realm-harness asks for, and `_fibertest` tries them before a guest does.

What a callback of the library gets and may do: it runs on the fiber, whose stack has 1.5 MiB for it, and is
done when it returns, so Python's own frames never wait on a fiber. Nothing may be raised from it. The places
that wasmtime gave it for the result and the trap stay good until the call ends, so the answer may be put
there later; that is done only between two turns, by who takes the turns.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi

from realm_abi import _wasmtime
from realm_abi.guard import Raw
from realm_abi.steps import Steps

RELEASES = ("50.0.",)
"""Those whose wasmtime/async.h has the signatures below."""
_I32_PER_VALUE = ctypes.sizeof(ffi.wasmtime_val_t) // ctypes.sizeof(ctypes.c_int32)
_CONTENT = ffi.wasmtime_val_t.of.offset // ctypes.sizeof(ctypes.c_int32)
_DONE, _NOT_DONE = b"1", b"\0"

_Pointer = ctypes.c_void_p
_Callback = ctypes.CFUNCTYPE(
    None,
    _Pointer,  # env
    _Pointer,  # caller
    ctypes.POINTER(ctypes.c_int32),  # arguments, as tagged values
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_int32),  # results; wasmtime has set them to zeros
    ctypes.c_size_t,
    ctypes.POINTER(_Pointer),  # trap
    ctypes.POINTER(_Pointer),  # continuation: callback, env, finalizer
)
_NAME = [ctypes.c_char_p, ctypes.c_size_t]
_TRAP_AND_ERROR = [ctypes.POINTER(_Pointer), ctypes.POINTER(_Pointer)]
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "wasmtime_call_future_poll": (ctypes.c_bool, [_Pointer]),
    "wasmtime_call_future_delete": (None, [_Pointer]),
    "wasmtime_func_call_async": (
        _Pointer,
        [_Pointer, _Pointer, _Pointer, ctypes.c_size_t, _Pointer, ctypes.c_size_t, *_TRAP_AND_ERROR],
    ),
    "wasmtime_linker_instantiate_async": (_Pointer, [_Pointer] * 4 + _TRAP_AND_ERROR),
    "wasmtime_linker_define_async_func": (
        _Pointer,
        [_Pointer, *_NAME, *_NAME, _Pointer, _Callback, _Pointer, _Pointer],
    ),
}
# Asked before each turn; it only writes a number, so it keeps the GIL.
_set_epoch_deadline = ctypes.PYFUNCTYPE(None, _Pointer, ctypes.c_uint64)(
    ("wasmtime_context_set_epoch_deadline", ffi.dll)
)

Started = int | str | Steps[int | str]
"""What a host call answers: the i32 result, the message of a trap, or the way to one of them."""


def missing() -> str:
    """Why there are no fibers here, as far as one can tell without trying; or nothing."""
    installed = version("wasmtime")
    if not installed.startswith(RELEASES):
        return f"wasmtime {installed} is none of the releases whose signatures are known"
    if sys.version_info >= (3, 14):  # it takes another stack than the thread's for an overflow, and aborts
        return "Python 3.14 does not run on stacks that it has not made"
    if os.name != "posix":
        return "they are known to work on POSIX systems only"
    absent = [name for name in _SIGNATURES if not hasattr(ffi.dll, name)]
    return f"the wasmtime library has no {', '.join(absent)}" if absent else ""


@functools.cache
def _function(name: str) -> Callable[..., Any]:
    """A function of the library; while it runs, other threads have the GIL."""
    result, parameters = _SIGNATURES[name]
    found: Callable[..., Any] = ctypes.CFUNCTYPE(result, *parameters)((name, ffi.dll))
    return found


@functools.cache
def _strlen() -> int:
    """The C library's function, by which wasmtime asks a host call that waits whether it is done.

    It wants a function of a pointer that answers 0 or 1. `strlen` of an empty text or one character does,
    and takes no way into Python.
    """
    return _wasmtime.address_of(ctypes.CDLL(None).strlen)


class Mailbox:
    """Where the one host call in which a fiber can be waits for its answer.

    `rested` is told since which `time.monotonic` a guest that would go on was not let.
    """

    def __init__(self, rested: Callable[[float], None]) -> None:
        self.rested = rested
        self.steps: Steps[int | str] | None = None
        self._done = ctypes.create_string_buffer(_DONE)
        self._results: Any = None
        self._trap: Any = None

    @property
    def address(self) -> int:
        """Of the text whose length says whether the answer is there."""
        return ctypes.addressof(self._done)

    def begin(self, steps: Steps[int | str], results: Any, trap: Any) -> None:
        """A host call waits from now on; wasmtime keeps the places for its answer."""
        self.steps, self._results, self._trap = steps, results, trap
        self._done[0] = _NOT_DONE

    def answer(self, answer: int | str) -> None:
        """With the fiber's next turn the call returns that."""
        self.steps = None
        _put(answer, self._results, self._trap)
        self._done[0] = _DONE


def _put(answer: int | str, results: Any, trap: Any) -> None:
    if isinstance(answer, str):
        trap[0] = _wasmtime.address_of(wasmtime.Trap(answer)._consume())
    else:
        results[_CONTENT] = answer


def define(
    linker: wasmtime.Linker,
    module: str,
    name: str,
    params: Sequence[str],
    functype: wasmtime.FuncType,
    call: Callable[[list[Raw]], Started],
    mailbox: Mailbox,
) -> object:
    """Defines an import that may wait, as `_wasmtime.define` does one that does not."""
    floats = [index for index, kind in enumerate(params) if kind == "f32"]
    end = _CONTENT + len(params) * _I32_PER_VALUE
    strlen, waits, done = _strlen(), mailbox.address, _wasmtime.named("1")
    at_once = ctypes.addressof(done[0])

    def entry(
        _env: Any, _caller: Any, values: Any, count: int, results: Any, _room: int, trap: Any, after: Any
    ) -> None:
        after[0], after[1] = strlen, at_once
        raw = values[_CONTENT:end:_I32_PER_VALUE] if count else []
        for index in floats:
            raw[index] = _wasmtime.as_float(raw[index])
        answer = call(raw)
        if isinstance(answer, int | str):
            _put(answer, results, trap)
        else:
            mailbox.begin(answer, results, trap)
            after[1] = waits

    callback = _Callback(entry)
    error = _function("wasmtime_linker_define_async_func")(
        linker.ptr(), *_wasmtime.named(module), *_wasmtime.named(name), functype.ptr(), callback, None, None
    )
    if error:
        raise wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(ffi.wasmtime_error_t)))
    return callback, done


def call(
    store: wasmtime.Store, function: wasmtime.Func, arguments: Sequence[int], mailbox: Mailbox
) -> Steps[int]:
    """Calls an export of i32s that answers one, here as a u32. Raises Trap or WasmtimeError."""
    values = (ffi.wasmtime_val_t * max(1, len(arguments)))()
    for value, argument in zip(values, arguments, strict=False):
        value.kind, value.of.i32 = ffi.WASMTIME_I32.value, argument
    result = ffi.wasmtime_val_t()
    where = ctypes.addressof(function._func), ctypes.addressof(values), len(arguments)
    yield from _turns(store, mailbox, "wasmtime_func_call_async", *where, ctypes.addressof(result), 1)
    return int(result.of.i32) & 0xFFFF_FFFF


def instantiate(
    linker: wasmtime.Linker, store: wasmtime.Store, module: wasmtime.Module, mailbox: Mailbox
) -> Steps[wasmtime.Instance]:
    """An instance whose start function has run. Raises Trap or WasmtimeError."""
    instance = ffi.wasmtime_instance_t()
    where = _wasmtime.address_of(module.ptr()), ctypes.addressof(instance)
    yield from _turns(
        store, mailbox, "wasmtime_linker_instantiate_async", *where, before=_wasmtime.address_of(linker.ptr())
    )
    return wasmtime.Instance._from_raw(instance)


def _turns(store: wasmtime.Store, mailbox: Mailbox, name: str, *given: int, before: int = 0) -> Steps[None]:
    """All turns of a call on a fiber of its own, and between them what the guest waits for.

    A turn ends with the call, where the guest waits, or when the epoch has ticked (`on_every_epoch`).
    Closed early these steps end the guest where it waits, and free its stack.
    """
    trap, error = _Pointer(), _Pointer()
    context = _wasmtime.address_of(store._context())
    poll, delete = _function("wasmtime_call_future_poll"), _function("wasmtime_call_future_delete")
    first = (before, context) if before else (context,)
    future = _function(name)(*first, *given, ctypes.byref(trap), ctypes.byref(error))
    try:
        _set_epoch_deadline(context, 1)
        while not poll(future):
            if mailbox.steps is None:
                since = time.monotonic()
                yield None
                mailbox.rested(since)
            else:
                mailbox.answer((yield from mailbox.steps))
            _set_epoch_deadline(context, 1)
    finally:
        mailbox.steps = None
        delete(future)
    if error:
        raise wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(ffi.wasmtime_error_t)))
    if trap:
        raise wasmtime.Trap._from_ptr(ctypes.cast(trap, ctypes.POINTER(ffi.wasm_trap_t)))
