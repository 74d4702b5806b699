"""What runs a model: the compiled path, plain NumPy or the same lines on a GPU, and how it rounds."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from dataclasses import dataclass
from typing import Final, Literal

from realm_reference.compute.cuda import cupy_fault
from realm_reference.model.errors import ModelError
from realm_reference.model.store import cache_folder

log = logging.getLogger(__name__)

Way = Literal["auto", "jit", "numpy"]
Precision = Literal["float32", "float64", "exact", "int8"]
JIT_PRECISIONS: Final = ("exact", "int8")


class ComputeError(ModelError):
    """This machine cannot compute as it was asked to."""


@dataclass(frozen=True)
class Compute:
    """How a model is run. `precision` "exact" (float32 activations) and "int8" are the compiled path's, and
    "float32" and "float64" (the oracle) are those of NumPy and CuPy ("cuda"); `threads` are of the compiled
    path.
    """

    way: Literal["jit", "numpy", "cuda"] = "numpy"
    precision: Precision = "float32"
    threads: int = 1

    def __str__(self) -> str:
        if self.way != "jit":
            return f"{'NumPy' if self.way == 'numpy' else 'CuPy'}, {self.precision}"
        return f"compiled, {self.precision}, {self.threads} thread{'s' * (self.threads > 1)}"


NUMPY: Final = Compute()
CUDA: Final = Compute("cuda")


def choose_compute(way: Way = "auto", precision: str = "exact", threads: int | None = None) -> Compute:
    """The compiled path where it can run, else NumPy; one line of log says which, and why.

    Raises ComputeError if the compiled path, or a precision that only it has, is asked for and cannot be.
    """
    fault = None if way == "numpy" else jit_fault()
    if way == "jit" and fault is not None:
        raise ComputeError(f"--compute jit cannot run here: {fault}; leave it out, or --compute numpy")
    if way == "numpy" or fault is not None:
        if precision == "int8":
            reason = fault or "NumPy computes in float32"
            raise ComputeError(f"--precision int8 needs the compiled path: {reason}; choose exact")
        log.info("computing: %s%s", NUMPY, f" (the compiled path cannot run: {fault})" if fault else "")
        return NUMPY
    chosen = Compute("jit", "int8" if precision == "int8" else "exact", threads or default_threads())
    log.info("computing: %s", chosen)
    return chosen


def choose_gpu(way: Way = "auto", precision: str = "exact") -> Compute:
    """CuPy on its current device, with a line of log; raises ComputeError if there is none, or if what only
    the compiled path has is asked for as well.
    """
    if way == "jit" or precision == "int8":
        raise ComputeError(
            "--gpu runs plain float32 arrays; leave --compute jit and --precision int8 out, or --gpu"
        )
    fault = cupy_fault()
    if fault is not None:
        raise ComputeError(f"--gpu cannot run here: {fault}; leave it out")
    log.info("computing: %s", CUDA)
    return CUDA


def default_threads() -> int:
    """One a processor: a thread that loses its own to a neighbour holds up no more than the item that it has
    (`compute.jit.team`). One in all where a process cannot have the semaphores that a team sleeps on.
    """
    return 1 if sys.platform == "darwin" else available_threads()


def available_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jit_fault() -> str | None:
    """Why the compiled path cannot run here, in a few words; None if it can."""
    if sys.platform == "win32":
        return "Windows has none of the semaphores that its threads sleep on"
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed"
    try:
        from realm_reference.compute.jit.cpu import FUSED
    except ImportError as error:  # a Numba that does not fit this NumPy or Python
        return f"Numba cannot be imported: {error}"
    return None if FUSED else "the processor has no fused multiply-add (FMA)"


def prepare_jit() -> None:
    """Numba keeps its code in our cache. Before the first import of a kernel's module."""
    from realm_reference.compute.jit.code_cache import keep_code_below

    keep_code_below(cache_folder() / "compiled-kernels")
