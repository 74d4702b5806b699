"""What the contract says of a call before anybody computes: which errors are right, if any.

Written from the contract's rules, not from the guard, so that the guard is among what is tested. Where one
parameter breaks two rules (a pointer that is misaligned and beyond the end) either code is right.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from realm_abi.contract import Function, Param, Term, load_contract
from realm_abi.errors import ErrorCode
from realm_abi.structs import element_size

LIMIT = 1 << 31
"""Handles are below it."""


@dataclass(frozen=True)
class Refusal:
    """The codes that are right, and why, for a reader."""

    codes: frozenset[ErrorCode]
    why: str


@dataclass(frozen=True)
class Known:
    """What the host's answers depend on: the model's dimensions, and the handles that are this guest's."""

    dims: Mapping[str, int]
    handles: Mapping[str, Collection[int]]


def refusal(function: Function, raw: Sequence[int], memory: int, known: Known) -> Refusal | None:
    """Why a call with these raw u32 arguments has to be refused, or None if its parameters are well.

    Texts are taken for UTF-8 and token ids for known ones: what is in the memory is not looked at.
    """
    given = dict(zip(function.signature, raw, strict=True))
    sizes: dict[str, int] = dict(known.dims)
    unknown: Refusal | None = None
    for param in function.params:
        if param.is_window or param.kind == "struct":
            start, size, count = _extent(param, given, sizes)
            if found := _window(param, start, size, memory):
                return found
            sizes[param.name] = count
            continue
        value = given[param.raw[0]]
        sizes[param.name] = value
        if param.kind == "flags" and value >> len(param.bits):
            return _refusal(
                f"{param.name} = {value:#x} has bits that are none of {', '.join(param.bits)}",
                "invalid_argument",
            )
        if param.kind == "handle":
            if not (0 if param.zero else 1) <= value < LIMIT:
                return _refusal(f"{param.name} = {value} can be no handle", "invalid_handle")
            if not param.zero and value not in known.handles[param.of]:
                unknown = _refusal(f"{param.name} = {value} is no {param.of} of this guest", "invalid_handle")
                if function.dimensions:
                    return unknown
    return _relations(function.params, sizes) or unknown


def _refusal(why: str, *codes: str) -> Refusal:
    return Refusal(frozenset(ErrorCode[code] for code in codes), why)


def _extent(param: Param, given: Mapping[str, int], sizes: Mapping[str, int]) -> tuple[int, int, int]:
    """A window's start, its bytes, and its elements."""
    start = given[param.raw[0]]
    if param.kind == "struct":
        size = 0 if param.nullable and not start else load_contract().structs[param.struct].size
        return start, size, size
    element = element_size(param.element)
    count = given[param.raw[1]] if len(param.raw) > 1 else _product(param.count, sizes)
    if param.unit == "bytes":
        return start, count, count // element
    return start, count * element, count


def _window(param: Param, start: int, size: int, memory: int) -> Refusal | None:
    structs = load_contract().structs
    alignment = structs[param.struct].alignment if param.kind == "struct" else param.alignment
    why, codes = [], []
    if start + size > memory:
        why.append(f"{param.name}, {size} bytes from {start} on, does not fit in the memory of {memory}")
        codes.append("out_of_bounds")
    if start % alignment:
        why.append(f"{param.raw[0]} = {start} is no multiple of {alignment}")
        codes.append("misaligned")
    return _refusal(" and ".join(why), *codes) if codes else None


def _relations(params: Sequence[Param], sizes: Mapping[str, int]) -> Refusal | None:
    why, codes = [], []
    for param in params:
        size = sizes[param.name]
        if param.at_least and size < (least := _product(param.at_least, sizes)):
            why.append(f"{param.name} has room for {size} of {least}")
            codes.append("buffer_too_small")
        wrong = (
            (param.at_most and size > _product(param.at_most, sizes))
            or (param.exactly and size != _product(param.exactly, sizes))
            or (param.multiple_of and size % _product(param.multiple_of, sizes))
        )
        if wrong:
            why.append(f"{param.name} = {size} does not fit the other parameters")
            codes.append("invalid_argument")
    return _refusal(" and ".join(why), *codes) if codes else None


def _product(terms: tuple[Term, ...], sizes: Mapping[str, int]) -> int:
    return math.prod(sizes[term] if isinstance(term, str) else term for term in terms)
