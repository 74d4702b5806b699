"""Numba's decorators, with types.

Nothing is compiled with fast-math: a sum is added up in the order in which it is written, so its bits depend
neither on the vectors of the machine nor on what else is computed beside it.

Entry points and kernels alone are cached on disk: the functions below them are compiled into them. Numba
looks at their own files alone to see whether its copy is stale, so the cache folder's name changes with every
file of this package and with the processor (`code_cache`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
from numba.extending import intrinsic as numba_intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])


_njit: Any = numba.njit  # its types know neither all options nor that a function keeps its own
_INNER: Final = {
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


def compiled(function: Function) -> Function:
    """Compile `function` where an entry point calls it: it allocates nothing and raises nothing."""
    return cast("Function", _njit(**_INNER)(function))


def inlined(function: Function) -> Function:
    """As `compiled`, for functions of a few instructions: never a call."""
    return cast("Function", _njit(**_INNER, forceinline=True)(function))


def entry_point(function: Function) -> Function:
    """Compile `function`, which Python calls, and keep the machine code on disk. It holds no lock of the
    interpreter.
    """
    return cast("Function", _njit(nogil=True, error_model="numpy", cache=True)(function))


def kernel(n_arguments: int) -> Callable[[Function], Function]:
    """Compile a function of so many integers that compiled code calls by its `address`, and keep it on disk.

    A function that is called plainly is compiled into each of its callers, and with them into theirs; this
    one only once.
    """
    signature = numba.types.void(*[numba.types.intp] * n_arguments)
    options: dict[str, Any] = {"error_model": "numpy", "_nrt": False}

    def decorate(function: Function) -> Function:
        return cast("Function", numba.cfunc(signature, cache=True, **options)(function))

    return decorate


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that writes its own instructions: called with types, it gives a signature and the code."""
    return cast("Callable[..., Any]", numba_intrinsic(prefer_literal=True)(function))
