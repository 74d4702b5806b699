"""The checks of single parameters, for the guard: each is made from the contract once and then only computes.

Sizes are Python integers, so neither `ptr + len` nor a product such as `n_ids * hidden_size * 4` can wrap,
and nothing is allocated before the checks.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realm_abi.contract import Function, Param, Term, load_contract
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.hostapi import Dimensions, HandleKind
from realm_abi.structs import element_size

MASK = 0xFFFF_FFFF
MAX_RESULT = 0x7FFF_FFFF
DTYPES: Mapping[str, np.dtype[Any]] = {
    "u8": np.dtype(np.uint8),
    "u32": np.dtype("<u4"),
    "u64": np.dtype("<u8"),
    "f32": np.dtype("<f4"),
}

Bytes = NDArray[np.uint8]
Sizes = dict[str, int]
"""What sizes are computed from, by name: scalars, counts of windows, the model's dimensions."""
Take = Callable[[tuple[Any, ...], int, Sizes], Any]
"""`(raw, memory_size, sizes) -> value`: reads one parameter, checks it, notes its size.

A window's value is its first byte and its number of elements.
"""
Relation = Callable[[Sizes], None]


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
    _fit(memory_size, pointer, count * size, alignment or size)


def _fit(memory_size: int, pointer: int, nbytes: int, alignment: int) -> None:
    if pointer + nbytes > memory_size:
        raise AbiError(ErrorCode.out_of_bounds, f"{nbytes} bytes at {pointer} in a memory of {memory_size}")
    if pointer % alignment:
        raise AbiError(ErrorCode.misaligned, f"{pointer} is not a multiple of {alignment}")


def take_of(param: Param, places: list[int], function: Function, host: Dimensions) -> Take:
    """How a parameter is read from the raw values and checked."""
    if param.is_window:
        return _take_window(param, places)
    place = places[0]
    if param.kind == "f32":
        return lambda raw, _memory_size, _sizes: raw[place]
    name, check = param.name, _CHECKS.get(param.kind)
    if param.kind == "handle":
        return _take_handle(param, place, host if function.dimensions else None)

    def take(raw: tuple[Any, ...], memory_size: int, sizes: Sizes) -> int:
        value: int = raw[place] & MASK
        if check is not None:
            check(param, value, memory_size)
        sizes[name] = value
        return value

    return take


def _take_handle(param: Param, place: int, host: Dimensions | None) -> Take:
    """`host` is asked for the dimensions of the model that the handle means, if the function needs them."""
    name, least = param.name, 0 if param.zero else 1
    kind: HandleKind = "session" if param.of == "session" else "model"

    def take(raw: tuple[Any, ...], _memory_size: int, sizes: Sizes) -> int:
        value: int = raw[place] & MASK
        if not least <= value <= MAX_RESULT:
            raise AbiError(ErrorCode.invalid_handle, f"{name} = {value}")
        sizes[name] = value
        if host is not None:
            sizes.update(host.dims(kind, value))
        return value

    return take


def _take_window(param: Param, places: list[int]) -> Take:
    pointer_place, length_place = places[0], places[-1]
    name, size, alignment = param.name, element_size(param.element), param.alignment
    implied = _product_of(param.count) if param.count else None
    if alignment % size:
        raise ValueError(f"{name} may lie where its elements cannot: {alignment} is no multiple of {size}")
    # The remainder of a byte count that is no whole number of elements has to fit, but is never touched.
    unit, per_element = (1, size) if param.unit == "bytes" else (size, 1)

    def take(raw: tuple[Any, ...], memory_size: int, sizes: Sizes) -> tuple[int, int]:
        pointer: int = raw[pointer_place] & MASK
        length: int = raw[length_place] & MASK if implied is None else implied(sizes)
        if pointer + length * unit > memory_size or pointer % alignment:
            _fit(memory_size, pointer, length * unit, alignment)
        count = sizes[name] = length // per_element
        return pointer, count

    return take


def _check_flags(param: Param, value: int, _memory_size: int) -> None:
    if value >> len(param.bits):
        raise AbiError(ErrorCode.invalid_argument, f"{param.name} = {value:#x} has unknown bits")


def _check_struct(param: Param, value: int, memory_size: int) -> None:
    if not (param.nullable and value == 0):
        struct = load_contract().structs[param.struct]
        fit(memory_size, value, struct.size, "u8", struct.alignment)


_CHECKS = {"flags": _check_flags, "struct": _check_struct}


def _product_of(terms: tuple[Term, ...]) -> Callable[[Sizes], int]:
    """Computes a product of numbers and sizes."""
    factor = math.prod(term for term in terms if isinstance(term, int))
    names = [term for term in terms if isinstance(term, str)]
    if factor == 1 and len(names) == 1:
        return operator.itemgetter(names[0])

    def product(sizes: Sizes) -> int:
        value = factor
        for name in names:
            value *= sizes[name]
        return value

    return product


def relations_of(param: Param) -> Iterator[Relation]:
    """The checks of a parameter's size against others, made when all sizes are known."""
    for terms, relate in (
        (param.at_least, _at_least),
        (param.at_most, _at_most),
        (param.exactly, _exactly),
        (param.multiple_of, _multiple_of),
    ):
        if terms:
            yield relate(param.name, _product_of(terms))


def _at_least(name: str, bound: Callable[[Sizes], int]) -> Relation:
    def relate(sizes: Sizes) -> None:
        if sizes[name] < (least := bound(sizes)):
            raise AbiError(ErrorCode.buffer_too_small, f"{name} has room for {sizes[name]} of {least}")

    return relate


def _at_most(name: str, bound: Callable[[Sizes], int]) -> Relation:
    def relate(sizes: Sizes) -> None:
        if sizes[name] > (most := bound(sizes)):
            raise AbiError(ErrorCode.invalid_argument, f"{name} = {sizes[name]} is more than {most}")

    return relate


def _exactly(name: str, bound: Callable[[Sizes], int]) -> Relation:
    def relate(sizes: Sizes) -> None:
        if sizes[name] != (exact := bound(sizes)):
            raise AbiError(
                ErrorCode.invalid_argument, f"{name} has {sizes[name]} elements instead of {exact}"
            )

    return relate


def _multiple_of(name: str, bound: Callable[[Sizes], int]) -> Relation:
    def relate(sizes: Sizes) -> None:
        if sizes[name] % (factor := bound(sizes)):
            raise AbiError(
                ErrorCode.invalid_argument, f"{name} has {sizes[name]} elements, no multiple of {factor}"
            )

    return relate


def _text(param: Param, window: tuple[int, int], memory: Bytes) -> str:
    start, count = window
    try:
        return memory[start : start + count].tobytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise AbiError(ErrorCode.invalid_utf8, f"{param.name}: {error}") from None


def _struct(param: Param, pointer: int, memory: Bytes) -> dict[str, Any]:
    """A struct's fields by name, with the arrays that it points to as checked read-only views."""
    struct = load_contract().structs[param.struct]
    given = pointer or not param.nullable
    fields: dict[str, Any] = {}
    fields |= struct.unpack(memory[pointer : pointer + struct.size].data) if given else struct.defaults()
    for array in struct.arrays:
        carrier = Param(f"{param.name}.{array.name}", "in", (array.pointer, array.count), array.element)
        place, count = fields[array.pointer], fields[array.count]
        fit(len(memory), place, count, array.element)
        fields[array.name] = Window(carrier, place, count).view(memory)
    return fields


READERS: Mapping[str, Callable[[Param, Any, Bytes], Any]] = {"text": _text, "struct": _struct}
"""How a checked value that is no plain number is read from the memory."""
