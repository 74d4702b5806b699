"""The guard: raw wasm parameters in, checked values out. The one place where bounds are checked.

Everything is driven by the contract; nobody writes a bounds check by hand. Sizes are Python integers, so
neither `ptr + len` nor a product such as `n_ids * hidden_size * 4` can wrap, and nothing is allocated before
the checks: a window becomes a NumPy view of guest memory, never a copy. The one copy is a text, made after
its bounds hold.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from realm_abi.contract import Function, Param, Term, load_contract
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.hostapi import Dimensions, HandleKind, HostTrap
from realm_abi.structs import element_size

log = logging.getLogger(__name__)

MASK = 0xFFFF_FFFF
MAX_RESULT = 0x7FFF_FFFF
DTYPES: Mapping[str, np.dtype[Any]] = {
    "u8": np.dtype(np.uint8),
    "u32": np.dtype("<u4"),
    "u64": np.dtype("<u8"),
    "f32": np.dtype("<f4"),
}

Raw = int | float
Bytes = NDArray[np.uint8]
Guarded = Callable[..., int]
"""`(memory, *raw) -> int`: what the sandbox calls; answers >= 0 or an error code, raises only HostTrap."""


class Memory(Protocol):
    """A guest's memory as the guard needs it."""

    def data(self) -> Bytes:
        """All of the memory as it is now [size]; asked anew in each call, for a guest may grow it."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """A checked piece of guest memory: `count` elements from byte `start` on."""

    param: Param
    start: int
    count: int

    @property
    def stop(self) -> int:
        """The first byte after the window."""
        return self.start + self.count * element_size(self.param.element)

    def view(self, memory: Bytes) -> NDArray[Any]:
        """memory [size] u8 -> [count] of the element's type, no copy; only an out window is writable."""
        view = memory[self.start : self.stop].view(DTYPES[self.param.element])
        if self.param.kind != "out":
            view.flags.writeable = False
        return view


def fit(memory_size: int, pointer: int, count: int, element: str, alignment: int = 0) -> None:
    """Checks that `count` elements from `pointer` on lie in the memory, aligned; AbiError if not."""
    size = element_size(element)
    if pointer + count * size > memory_size:
        raise AbiError(
            ErrorCode.out_of_bounds, f"{count} x {size} bytes at {pointer} in a memory of {memory_size}"
        )
    if pointer % (alignment or size):
        raise AbiError(ErrorCode.misaligned, f"{pointer} is not a multiple of {alignment or size}")


class _Slot(NamedTuple):
    """Where in a call's raw values a parameter is: its value or pointer, and its length if that is given."""

    param: Param
    first: int
    second: int | None = None


class Guard:
    """Checks one function's calls.

    `host` is asked for a model's dimensions where the size of a window depends on them.
    """

    def __init__(self, function: Function, host: Dimensions) -> None:
        self.function = function
        self._host = host
        index = {name: position for position, name in enumerate(function.signature)}
        self._slots = [_Slot(param, *(index[name] for name in param.raw)) for param in function.params]
        self._related = [param for param in function.params if _has_relation(param)]
        self._needs_dimensions = bool(function.dimensions)

    def check(self, memory_size: int, raw: tuple[Raw, ...]) -> dict[str, Raw | Window]:
        """Every value by name: scalars as they are, windows located and proven to fit.

        Raises AbiError with the code of the first check that fails.
        """
        sizes: dict[str, int] = {}
        values: dict[str, Raw | Window] = {}
        for param, first, second in self._slots:
            value: Raw | Window
            if param.kind == "f32":
                value = raw[first]
            elif param.is_window:
                length = _product(param.count, sizes) if second is None else int(raw[second]) & MASK
                value = _window(param, int(raw[first]) & MASK, length, memory_size)
                sizes[param.name] = value.count
            else:
                value = _scalar(param, int(raw[first]) & MASK, memory_size)
                sizes[param.name] = value
                if self._needs_dimensions and param.kind == "handle":
                    sizes.update(self._dimensions(param, value))
            values[param.name] = value
        for param in self._related:
            _relate(param, sizes)
        return values

    def arguments(self, memory: Bytes, raw: tuple[Raw, ...]) -> list[Any]:
        """What the host's method is called with: scalars, `str`, NumPy views, structs as dicts.

        Raises AbiError with the code of the first check that fails.
        """
        checked = self.check(len(memory), raw)
        return [_argument(param, checked[param.name], memory) for param in self.function.params]

    def _dimensions(self, param: Param, handle: int) -> Mapping[str, int]:
        kind: HandleKind = "session" if param.of == "session" else "model"
        return self._host.dims(kind, handle)


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


def _has_relation(param: Param) -> bool:
    return bool(param.exactly or param.multiple_of or param.at_most or param.at_least)


def _product(terms: tuple[Term, ...], sizes: Mapping[str, int]) -> int:
    return math.prod(sizes[term] if isinstance(term, str) else term for term in terms)


def _window(param: Param, pointer: int, length: int, memory_size: int) -> Window:
    if param.unit == "bytes":
        # The remainder of a byte count that is no whole number of elements has to fit, but is never touched.
        fit(memory_size, pointer, length, "u8", param.alignment)
        return Window(param, pointer, length // element_size(param.element))
    fit(memory_size, pointer, length, param.element, param.alignment)
    return Window(param, pointer, length)


def _scalar(param: Param, value: int, memory_size: int) -> int:
    if param.kind == "handle" and not (0 if param.zero else 1) <= value <= MAX_RESULT:
        raise AbiError(ErrorCode.invalid_handle, f"{param.name} = {value}")
    if param.kind == "flags" and value >> len(param.bits):
        raise AbiError(ErrorCode.invalid_argument, f"{param.name} = {value:#x} has unknown bits")
    if param.kind == "struct" and not (param.nullable and value == 0):
        struct = load_contract().structs[param.struct]
        fit(memory_size, value, struct.size, "u8", struct.alignment)
    return value


def _relate(param: Param, sizes: Mapping[str, int]) -> None:
    size = sizes[param.name]
    if param.at_least and size < (least := _product(param.at_least, sizes)):
        raise AbiError(ErrorCode.buffer_too_small, f"{param.name} has room for {size} of {least}")
    if param.at_most and size > (most := _product(param.at_most, sizes)):
        raise AbiError(ErrorCode.invalid_argument, f"{param.name} = {size} is more than {most}")
    if param.exactly and size != (exact := _product(param.exactly, sizes)):
        raise AbiError(ErrorCode.invalid_argument, f"{param.name} has {size} elements instead of {exact}")
    if param.multiple_of and size % (factor := _product(param.multiple_of, sizes)):
        raise AbiError(
            ErrorCode.invalid_argument, f"{param.name} has {size} elements, no multiple of {factor}"
        )


def _argument(param: Param, value: Raw | Window, memory: Bytes) -> Any:
    if isinstance(value, Window):
        return _text(value, memory) if param.kind == "text" else value.view(memory)
    return _struct(param, int(value), memory) if param.kind == "struct" else value


def _text(window: Window, memory: Bytes) -> str:
    try:
        return memory[window.start : window.stop].tobytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise AbiError(ErrorCode.invalid_utf8, f"{window.param.name}: {error}") from None


def _struct(param: Param, pointer: int, memory: Bytes) -> dict[str, Any]:
    """A struct's fields by name, with the arrays that it points to as checked read-only views."""
    struct = load_contract().structs[param.struct]
    given = pointer or not param.nullable
    fields: dict[str, Any] = {}
    fields |= struct.unpack(memory[pointer : pointer + struct.size].data) if given else struct.defaults()
    for array in struct.arrays:
        carrier = Param(f"{param.name}.{array.name}", "in", (array.pointer, array.count), array.element)
        window = _window(carrier, fields[array.pointer], fields[array.count], len(memory))
        fields[array.name] = window.view(memory)
    return fields
