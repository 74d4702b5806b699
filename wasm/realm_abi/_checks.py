"""The checks of a call, written out from the contract as one Python function for each of its functions.

A guest's token takes 3 calls in v2 and 33 in v1, and a call that goes through a closure for every parameter
spends more time on the way between them than in them. Sizes are Python integers, so neither `ptr + len` nor a
product such as `n_ids * hidden_size * 4` can wrap, and nothing is allocated before the checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from realm_abi.contract import Function, Param, Term, load_contract
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.hostapi import HandleKind
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
Dims = Callable[[HandleKind, int], Mapping[str, int]]


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
    if pointer + count * size > memory_size or pointer % (alignment or size):
        _misfit(memory_size, pointer, count * size)


@dataclass(frozen=True, slots=True)
class Checks:
    """What is written out for one function; `raw` are the values in the order of its signature.

    `located(raw, memory_size, dims)` answers every parameter's value, a window as its Window. Both raise
    AbiError with the code of the first check that fails. `arguments(raw, memory, whole, dims)` answers what
    the host's method is called with; `whole` is all of the memory as the elements of each of `views`.
    """

    located: Callable[[Sequence[Any], int, Dims], list[Any]]
    arguments: Callable[[Sequence[Any], Bytes, Sequence[NDArray[Any]], Dims], list[Any]]
    views: tuple[Param, ...]


_written: dict[int, tuple[Function, Checks]] = {}


def checks_of(function: Function) -> Checks:
    """The checks of a function, written out when they are asked for first."""
    found = _written.get(id(function))  # to hash a function would take longer than all the rest
    if found is None:
        # The function is kept too, so that no other one gets its id.
        found = _written[id(function)] = function, _write(function)
    return found[1]


def _write(function: Function) -> Checks:
    params = function.params
    views = tuple(param for param in params if param.kind in ("in", "out"))
    body = [*_taken(function), *_related(function)]
    names: dict[str, Any] = {
        "_misfit": _misfit, "_refuse": _refuse, "_text": _text, "_struct": _struct, "Window": Window,
        "params": params,
    }  # fmt: skip
    located = [
        f"Window(params[{i}], p{i}, v{i})" if param.is_window else f"v{i}" for i, param in enumerate(params)
    ]
    lines = [
        "def located(raw, memory_size, dims):",
        *body,
        f" return [{', '.join(located)}]",
        "def arguments(raw, memory, whole, dims):",
        " memory_size = len(memory)",
        *body,
        f" return [{', '.join(_argument(i, param, views) for i, param in enumerate(params))}]",
    ]
    exec(compile("\n".join(lines), f"<checks of {function.name}>", "exec"), names)
    return Checks(names["located"], names["arguments"], views)


def _taken(function: Function) -> Iterator[str]:
    """Statements that read the parameters and check each: `v` is a value or a count, `p` a window's start."""
    if function.signature:
        yield f" {', '.join(f'r_{name}' for name in function.signature)}, = raw"
    for i, param in enumerate(function.params):
        pointer, length = f"r_{param.raw[0]}", f"r_{param.raw[-1]}"
        if param.is_window:
            yield from _taken_window(i, param, pointer, length, function)
        elif param.kind == "f32":
            yield f" v{i} = {pointer}"
        else:
            yield f" v{i} = {pointer} & {MASK}"
            yield from _checked_scalar(i, param, function)


def _taken_window(i: int, param: Param, pointer: str, length: str, function: Function) -> Iterator[str]:
    size, alignment = element_size(param.element), param.alignment
    if alignment % size:
        raise ValueError(
            f"{param.name} may lie where its elements cannot: {alignment} is no multiple of {size}"
        )
    yield f" p{i} = {pointer} & {MASK}"
    yield f" n = {_product(param.count, function)}" if param.count else f" n = {length} & {MASK}"
    # The remainder of a byte count that is no whole number of elements has to fit, but is never touched.
    nbytes, count = ("n", f"n // {size}") if param.unit == "bytes" else (f"n * {size}", "n")
    crooked = f" or p{i} % {alignment}" if alignment > 1 else ""
    yield f" if p{i} + {nbytes} > memory_size{crooked}: _misfit(memory_size, p{i}, {nbytes})"
    yield f" v{i} = {count}"


def _checked_scalar(i: int, param: Param, function: Function) -> Iterator[str]:
    if param.kind == "handle":
        least, unknown = 0 if param.zero else 1, f"_refuse('invalid_handle', '{param.name} = {{}}', v{i})"
        yield f" if not {least} <= v{i} <= {MAX_RESULT}: {unknown}"
        if function.dimensions:
            yield f" d = dims('{'session' if param.of == 'session' else 'model'}', v{i})"
    elif param.kind == "flags":
        unknown = f"_refuse('invalid_argument', '{param.name} = {{:#x}} has unknown bits', v{i})"
        yield f" if v{i} >> {len(param.bits)}: {unknown}"
    elif param.kind == "struct":
        struct = load_contract().structs[param.struct]
        given = f"v{i} and " if param.nullable else ""
        outside = f"v{i} + {struct.size} > memory_size or v{i} % {struct.alignment}"
        yield f" if {given}({outside}): _misfit(memory_size, v{i}, {struct.size})"


_RELATIONS = {
    "at_least": ("v{i} < {bound}", "buffer_too_small", "has room for {} of {}"),
    "at_most": ("v{i} > {bound}", "invalid_argument", "is {}, more than {}"),
    "exactly": ("v{i} != {bound}", "invalid_argument", "has {} elements instead of {}"),
    "multiple_of": ("v{i} % ({bound})", "invalid_argument", "has {} elements, no multiple of {}"),
}
"""When a parameter's size contradicts others, what is then answered, and in which words."""


def _related(function: Function) -> Iterator[str]:
    """Statements that check sizes against others, when all are known."""
    for i, param in enumerate(function.params):
        for relation, (broken, code, words) in _RELATIONS.items():
            if terms := getattr(param, relation):
                bound = _product(terms, function)
                test = broken.format(i=i, bound=bound)
                yield f" if {test}: _refuse('{code}', '{param.name} {words}', v{i}, {bound})"


def _product(terms: tuple[Term, ...], function: Function) -> str:
    """A product of numbers, sizes of parameters and dimensions of the model."""
    places = {param.name: f"v{i}" for i, param in enumerate(function.params)}
    return " * ".join(
        str(term) if isinstance(term, int) else places.get(term, f"d['{term}']") for term in terms
    )


def _argument(i: int, param: Param, views: tuple[Param, ...]) -> str:
    """What the host's method gets."""
    if param.kind == "text":
        return f"_text('{param.name}', memory[p{i} : p{i} + v{i}])"
    if param.kind == "struct":
        return f"_struct(params[{i}], v{i}, memory)"
    if param.kind in ("in", "out"):
        first = f"p{i} // {size}" if (size := element_size(param.element)) > 1 else f"p{i}"
        return f"whole[{views.index(param)}][{first} : {first} + v{i}]"
    return f"v{i}"


def _misfit(memory_size: int, pointer: int, nbytes: int) -> NoReturn:
    if pointer + nbytes > memory_size:
        raise AbiError(ErrorCode.out_of_bounds, f"{nbytes} bytes at {pointer} in a memory of {memory_size}")
    raise AbiError(ErrorCode.misaligned, f"{pointer} is no multiple of what lies there")


def _refuse(code: str, words: str, *sizes: int) -> NoReturn:
    raise AbiError(ErrorCode[code], words.format(*sizes))


def _text(name: str, window: Bytes) -> str:
    try:
        return window.tobytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise AbiError(ErrorCode.invalid_utf8, f"{name}: {error}") from None


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
