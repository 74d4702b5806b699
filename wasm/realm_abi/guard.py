"""The guard: raw wasm parameters in, checked values out. The one place where bounds are checked.

Everything is driven by the contract; nobody writes a bounds check by hand (those of single parameters are
in `_checks`). A window becomes a NumPy view of guest memory, never a copy. The one copy is a text, made after
its bounds hold.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

from realm_abi._checks import (
    DTYPES,
    MASK,
    MAX_RESULT,
    READERS,
    Bytes,
    Sizes,
    Window,
    fit,
    relations_of,
    take_of,
)
from realm_abi.contract import Function
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.hostapi import Dimensions, HostTrap
from realm_abi.structs import element_size

__all__ = [
    "MASK",
    "MAX_RESULT",
    "Bytes",
    "Guard",
    "Guarded",
    "Memory",
    "Raw",
    "Window",
    "bind",
    "fit",
    "unsupported",
]

log = logging.getLogger(__name__)

Raw = int | float
Guarded = Callable[..., int]
"""`(memory, *raw) -> int`: what the sandbox calls; answers >= 0 or an error code, raises only HostTrap."""


class Memory(Protocol):
    """A guest's memory as the guard needs it."""

    def data(self) -> Bytes:
        """All of the memory as it is now [size]; asked anew in each call, for a guest may grow it."""
        ...


class Guard:
    """Checks one function's calls.

    `host` is asked for a model's dimensions where the size of a window depends on them. What can be known
    before a call is worked out here, once: a guest's token takes 3 calls in v2 and 33 in v1.
    """

    def __init__(self, function: Function, host: Dimensions) -> None:
        self.function = function
        params = function.params
        index = {name: position for position, name in enumerate(function.signature)}
        self._takes = [
            take_of(param, [index[name] for name in param.raw], function, host) for param in params
        ]
        self._relations = [relation for param in params for relation in relations_of(param)]
        self._views = [
            (position, element_size(param.element))
            for position, param in enumerate(params)
            if param.kind in ("in", "out")
        ]
        self._readers = [
            (position, functools.partial(READERS[param.kind], param))
            for position, param in enumerate(params)
            if param.kind in READERS
        ]
        self._memory: Bytes | None = None
        self._typed: list[NDArray[Any]] = []

    def check(self, memory_size: int, raw: tuple[Raw, ...]) -> dict[str, Raw | Window]:
        """Every value by name: scalars as they are, windows located and proven to fit.

        Raises AbiError with the code of the first check that fails.
        """
        values = self._checked(memory_size, raw)
        return {
            param.name: Window(param, *value) if param.is_window else value
            for param, value in zip(self.function.params, values, strict=True)
        }

    def arguments(self, memory: Bytes, raw: tuple[Raw, ...]) -> list[Any]:
        """What the host's method is called with: scalars, `str`, NumPy views, structs as dicts.

        Raises AbiError with the code of the first check that fails.
        """
        values = self._checked(len(memory), raw)
        if memory is not self._memory:
            self._memory, self._typed = memory, self._views_of(memory)
        for (position, size), typed in zip(self._views, self._typed, strict=True):
            start, count = values[position]
            first = start // size
            values[position] = typed[first : first + count]
        for position, read in self._readers:
            values[position] = read(values[position], memory)
        return values

    def _checked(self, memory_size: int, raw: tuple[Raw, ...]) -> list[Any]:
        """The parameters' values in their order; a window as (first byte, number of elements)."""
        sizes: Sizes = {}
        values = [take(raw, memory_size, sizes) for take in self._takes]
        for relation in self._relations:
            relation(sizes)
        return values

    def _views_of(self, memory: Bytes) -> list[NDArray[Any]]:
        """The whole memory as each window's elements: a window is a slice of it, for its start is aligned."""
        typed = []
        for position, size in self._views:
            param = self.function.params[position]
            view = memory[: len(memory) // size * size].view(DTYPES[param.element])
            if param.kind != "out":
                view.flags.writeable = False
            typed.append(view)
        return typed


def bind(function: Function, implementation: Callable[..., int], host: Dimensions) -> Guarded:
    """The guarded host function: `(memory, *raw) -> int`.

    It answers what `implementation` answers, the code of the AbiError that the checks or the implementation
    raise, and `internal` for anything else that goes wrong in the host, which is logged. HostTrap passes.
    """
    guard = Guard(function, host)

    def guarded(memory: Memory, *raw: Raw) -> int:
        try:
            result = int(implementation(*guard.arguments(memory.data(), raw)))
            if not 0 <= result <= MAX_RESULT:
                raise ValueError(f"{function.name} answered {result}")
        except AbiError as error:
            log.debug("%s: %s", function.name, error)
            return int(error.code)
        except HostTrap:
            raise
        except Exception:
            log.exception("%s failed in the host", function.name)
            return int(ErrorCode.internal)
        return result

    return guarded


def unsupported(_memory: Memory, *_raw: Raw) -> int:
    """Stands in for a function that a host does not offer."""
    return int(ErrorCode.unsupported)
