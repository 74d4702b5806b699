"""The guard: raw wasm parameters in, checked values out. The one place where bounds are checked.

Everything is driven by the contract, from which `_checks` writes them; nobody writes a bounds check by hand.
A window becomes a NumPy view of guest memory, never a copy. The one copy is a text, made after its bounds
hold.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import GeneratorType
from typing import Any, Protocol

from numpy.typing import NDArray

from realm_abi._checks import (
    DTYPES,
    MASK,
    MAX_RESULT,
    Bytes,
    Window,
    checks_of,
    fit,
)
from realm_abi.contract import Function, Param
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.hostapi import Dimensions, HostTrap
from realm_abi.steps import Answer, Steps, settled
from realm_abi.structs import element_size

__all__ = [
    "MASK",
    "MAX_RESULT",
    "Begun",
    "Bytes",
    "Guard",
    "Guarded",
    "Memory",
    "Raw",
    "Window",
    "begin",
    "bind",
    "fit",
    "unsupported",
]

log = logging.getLogger(__name__)

Raw = int | float
Guarded = Callable[..., int]
"""`(memory, *raw) -> int`: answers >= 0 or an error code, raises only HostTrap."""
Begun = Callable[..., Answer]
"""The same for a function that may take long: it may answer the steps to its answer."""


class Memory(Protocol):
    """A guest's memory as the guard needs it."""

    def data(self) -> Bytes:
        """All of the memory as it is now [size]; asked anew in each call, for a guest may grow it."""
        ...


class Guard:
    """Checks one function's calls.

    `host` is asked for a model's dimensions where the size of a window depends on them.
    """

    def __init__(self, function: Function, host: Dimensions) -> None:
        self.function = function
        self._checks = checks_of(function)
        self._dims = host.dims
        self._memory: Bytes | None = None
        self._whole: list[NDArray[Any]] = []

    def check(self, memory_size: int, raw: tuple[Raw, ...]) -> dict[str, Raw | Window]:
        """Every value by name: scalars as they are, windows located and proven to fit.

        Raises AbiError with the code of the first check that fails.
        """
        values = self._checks.located(raw, memory_size, self._dims)
        return {param.name: value for param, value in zip(self.function.params, values, strict=True)}

    def arguments(self, memory: Bytes, raw: tuple[Raw, ...]) -> list[Any]:
        """What the host's method is called with: scalars, `str`, NumPy views, structs as dicts.

        Raises AbiError with the code of the first check that fails.
        """
        if memory is not self._memory:
            self._memory, self._whole = memory, [_all_of(memory, param) for param in self._checks.views]
        return self._checks.arguments(raw, memory, self._whole, self._dims)


def _all_of(memory: Bytes, param: Param) -> NDArray[Any]:
    """The whole memory as a window's elements: a window is a slice of it, for its start is aligned."""
    size = element_size(param.element)
    view = memory[: len(memory) // size * size].view(DTYPES[param.element])
    if param.kind != "out":
        view.flags.writeable = False
    return view


def bind(function: Function, implementation: Callable[..., Answer], host: Dimensions) -> Guarded:
    """The guarded host function, which waits where the implementation has to."""
    begun = begin(function, implementation, host)

    def guarded(memory: Memory, *raw: Raw) -> int:
        return settled(begun(memory, *raw))

    return guarded


def begin(function: Function, implementation: Callable[..., Answer], host: Dimensions) -> Begun:
    """The guarded host function: `(memory, *raw) -> int`, or the steps to it where those are what the
    implementation answers.

    It answers what `implementation` answers, the code of the AbiError that the checks or the implementation
    raise, and `internal` for anything else that goes wrong in the host, which is logged. HostTrap passes.
    """
    guard = Guard(function, host)

    def begun(memory: Memory, *raw: Raw) -> Answer:
        try:
            result = implementation(*guard.arguments(memory.data(), raw))
            if isinstance(result, GeneratorType):
                return _guarded(function, result)
            return _checked(function, result)
        except HostTrap:
            raise
        except Exception as error:
            return _code_of(function, error)

    return begun


def _guarded(function: Function, steps: Steps[int]) -> Steps[int]:
    try:
        return _checked(function, (yield from steps))
    except HostTrap:
        raise
    except Exception as error:
        return _code_of(function, error)


def _checked(function: Function, answer: Any) -> int:
    result = int(answer)
    if not 0 <= result <= MAX_RESULT:
        raise ValueError(f"{function.name} answered {result}")
    return result


def _code_of(function: Function, error: Exception) -> int:
    """What a host function that raised answers its guest."""
    if isinstance(error, AbiError):
        log.debug("%s: %s", function.name, error)
        return int(error.code)
    log.error("%s failed in the host", function.name, exc_info=error)
    return int(ErrorCode.internal)


def unsupported(_memory: Memory, *_raw: Raw) -> int:
    """Stands in for a function that a host does not offer."""
    return int(ErrorCode.unsupported)
