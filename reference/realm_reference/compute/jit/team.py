"""Threads that run one step together, without the interpreter and without waiting for a thread that is late.

Every thread of a team runs the same compiled function, with a rank of its own: rank 0 is the caller's, the
others sleep in compiled code until there is a step. None of them holds or needs the interpreter's lock, so a
busy server does not delay a step once it runs.

A step is a list of stages, and each stage a few items of work. Threads claim items one by one, and go on to
the next stage when all items are finished, whoever finished them. So a thread that has no processor right
now costs the others nothing but the item that it holds; when it comes back it finds everything claimed, and
catches up. What it must not do is to claim an item of a later step by an old order. Therefore the counters
of a step carry its number, `epoch`, in their upper half, and a claim compares it.

Who has to wait spins first, because stages are shorter than it takes to wake up, but not for long, because
it may occupy the processor that the other thread needs.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from llvmlite import ir
from numba import types

from realm_reference.compute.jit.compiled import compiled, inlined, intrinsic
from realm_reference.compute.jit.cpu import X86
from realm_reference.compute.jit.layout import aligned_zeros
from realm_reference.compute.jit.simd import call

_SPINS: Final = 2000  # some tens of microseconds
_ITEMS_EACH: Final = 2  # items of a stage for each thread
_EPOCH: Final = 1 << 32  # counters count in the lower half
_INT64 = ir.IntType(64)
SEMAPHORE_BYTES: Final = 64  # a sem_t and room, so that no two share a cache line

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
def _compare_exchange(typing: Any, address: Any, expected: Any, value: Any) -> Any:
    """Write `value` if `expected` is there; whether it was."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], _INT64.as_pointer())
        outcome = builder.cmpxchg(pointer, values[1], values[2], "seq_cst")
        return builder.extract_value(outcome, 1)

    return types.boolean(types.intp, types.int64, types.int64), code


@intrinsic
def _exchange(typing: Any, address: Any, value: Any) -> Any:
    """Write a number to `address`, and return what was there."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], _INT64.as_pointer())
        return builder.atomic_rmw("xchg", pointer, values[1], "seq_cst")

    return types.int64(types.intp, types.int64), code


@intrinsic
def _fetch(typing: Any, address: Any) -> Any:
    """The number at `address`, and everything that was written before it."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], _INT64.as_pointer())
        return builder.load_atomic(pointer, "seq_cst", 8, typ=_INT64)

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


@inlined
def items_of(ranks: int) -> int:
    """Items of every stage."""
    return 1 if ranks == 1 else _ITEMS_EACH * ranks


@compiled
def begin(counters: Any, epoch: Any, bells: Any) -> None:
    """Open all stages of a new step, and wake the team.

    counters [stages, 2, ..]: how many items of a stage are claimed, and how many finished. The `epoch` [1] is
    told last, so that whoever knows it finds all stages open.
    """
    new = epoch[0] + 1
    _set_all(counters, new * _EPOCH)
    _exchange(epoch.ctypes.data, new)
    for rank in range(1, bells.shape[0]):
        ring(bells, rank)


@compiled
def end(counters: Any, epoch: Any) -> None:
    """Close all stages: whoever is late finds everything claimed and finished."""
    _set_all(counters, epoch[0] * _EPOCH + _EPOCH - 1)


@compiled
def _set_all(counters: Any, value: int) -> None:
    for stage in range(counters.shape[0]):
        _exchange(counters[stage, 0].ctypes.data, value)
        _exchange(counters[stage, 1].ctypes.data, value)


@compiled
def claim(counters: Any, stage: int, epoch: int, items: int) -> int:
    """An item of the stage that is the caller's now; -1 if none is left."""
    claimed = counters[stage, 0].ctypes.data
    while True:
        before = _fetch(claimed)
        if before // _EPOCH != epoch or before % _EPOCH >= items:
            return -1
        if _compare_exchange(claimed, before, before + 1):
            return int(before % _EPOCH)


@compiled
def finish(counters: Any, stage: int, items: int, sleepers: Any, bells: Any) -> None:
    """An item that was claimed is done; whoever does the last wakes those who sleep."""
    if _fetch_add(counters[stage, 1].ctypes.data, 1) % _EPOCH + 1 == items:
        for rank in range(bells.shape[0]):
            if _exchange(sleepers[rank].ctypes.data, 0):
                ring(bells, rank)


@compiled
def settle(counters: Any, stage: int, epoch: int, items: int, rank: int, sleepers: Any, bells: Any) -> None:
    """Wait until all items of the stage are finished, or the step is over.

    `sleepers` [ranks, ..] are marks of those who sleep. A bell may ring for nothing, so it is looked again.
    """
    spins = 0
    while _is_open(counters, stage, epoch, items):
        if spins < _SPINS:
            spins += 1
            _relax()
        else:
            _exchange(sleepers[rank].ctypes.data, 1)
            if _is_open(counters, stage, epoch, items):
                sleep(bells, rank)
            _exchange(sleepers[rank].ctypes.data, 0)


@inlined
def _is_open(counters: Any, stage: int, epoch: int, items: int) -> bool:
    finished = _fetch(counters[stage, 1].ctypes.data)
    return bool(finished // _EPOCH == epoch and finished % _EPOCH < items)


@compiled
def sleep(bells: Any, rank: int) -> None:
    """Wait for the rank's bell, or for a signal."""
    _sem_wait(bells[rank].ctypes.data)


@compiled
def ring(bells: Any, rank: int) -> None:
    """Wake a rank, or let it go on if it is about to sleep."""
    _sem_post(bells[rank].ctypes.data)


def new_bells(ranks: int) -> Any:
    """A semaphore for each rank; raises OSError where a process cannot have them."""
    bells = aligned_zeros((ranks, SEMAPHORE_BYTES), "u1")
    if ranks == 1:
        return bells  # nobody sleeps
    library = ctypes.CDLL(None, use_errno=True)
    for rank in range(ranks):
        if library.sem_init(ctypes.c_void_p(bells[rank].ctypes.data), 0, 0):
            raise OSError(ctypes.get_errno(), "no semaphores for a team of threads")
    return bells
