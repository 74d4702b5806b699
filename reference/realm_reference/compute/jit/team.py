"""Threads that run one step together, and wait for each other without the interpreter.

Every thread of a team runs the same compiled function, with a rank of its own: rank 0 is the caller's, the
others sleep in compiled code until there is a step. None of them holds or needs the interpreter's lock, so a
busy server does not delay a step once it runs. Between two parts of a step they meet at a barrier, which
spins, because that is a thousand times faster than sleeping, and yields, because there may be more threads
than processors.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from llvmlite import ir
from numba import types

from realm_reference.compute.jit.compiled import compiled, intrinsic
from realm_reference.compute.jit.cpu import X86
from realm_reference.compute.jit.layout import aligned_zeros
from realm_reference.compute.jit.simd import call

_SPINS: Final = 2000  # some tens of microseconds
_INT64 = ir.IntType(64)
SEMAPHORE_BYTES: Final = 64  # a sem_t and room, so that no two share a cache line

_sched_yield = types.ExternalFunction("sched_yield", types.int32())
_sem_wait = types.ExternalFunction("sem_wait", types.int32(types.intp))
_sem_post = types.ExternalFunction("sem_post", types.int32(types.intp))


@intrinsic
def _fetch_add(typing: Any, address: Any, value: Any) -> Any:
    """Add to the number at `address`, and return what was there."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], _INT64.as_pointer())
        return builder.atomic_rmw("add", pointer, values[1], "seq_cst")

    return types.int64(types.intp, types.int64), code


@intrinsic
def _fetch(typing: Any, address: Any) -> Any:
    """The number at `address`, and everything that was written before it."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], _INT64.as_pointer())
        return builder.load_atomic(pointer, "acquire", 8, typ=_INT64)

    return types.int64(types.intp), code


@intrinsic
def _relax(typing: Any) -> Any:
    """Leave the core to whoever shares it, for some cycles."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if X86:
            shape = ir.FunctionType(ir.VoidType(), [])
            call(builder, shape, "llvm.x86.sse2.pause", [])
        return context.get_dummy_value()

    return types.void(), code


@compiled
def meet(arrivals: Any, ranks: int) -> None:
    """Wait until all threads of the team are here; `arrivals` [1] has counted them since the beginning."""
    if ranks == 1:
        return
    address = arrivals.ctypes.data
    wanted = (_fetch_add(address, 1) // ranks + 1) * ranks
    spins = 0
    while _fetch(address) < wanted:
        _relax()
        spins += 1
        if spins > _SPINS:
            _sched_yield()


@compiled
def sleep(bells: Any, rank: int) -> None:
    """Wait for the rank's bell."""
    while _sem_wait(bells[rank].ctypes.data) != 0:
        pass  # interrupted by a signal


@compiled
def ring(bells: Any, rank: int) -> None:
    """Wake a rank, or let it go on if it is about to sleep."""
    _sem_post(bells[rank].ctypes.data)


def new_bells(ranks: int) -> Any:
    """A semaphore for each rank; raises OSError where a process cannot have them."""
    bells = aligned_zeros((ranks, SEMAPHORE_BYTES), "u1")
    library = ctypes.CDLL(None, use_errno=True)
    for rank in range(ranks):
        if library.sem_init(ctypes.c_void_p(bells[rank].ctypes.data), 0, 0):
            raise OSError(ctypes.get_errno(), "no semaphores for a team of threads")
    return bells
