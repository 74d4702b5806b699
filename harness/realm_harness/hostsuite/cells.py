"""The values that a parameter is tried with: at the memory's end, misaligned, overflowing, foreign."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from realm_abi.contract import Function, Param, load_contract
from realm_abi.errors import ErrorCode
from realm_abi.structs import element_size

from realm_harness.hostsuite.baseline import IDS, OUT, TEXT, TOKENS, WORDS, World, sane

HALF, WHOLE = 1 << 31, 1 << 32
BROKEN_TEXTS = ("ff", "c328", "c080", "eda080", "f4908080", "e282")
"""No UTF-8: a byte that never comes, a lone lead, overlong, a surrogate, beyond U+10FFFF, cut off."""


@dataclass(frozen=True)
class Cell:
    """A call that differs from the sane one.

    Attributes:
        changes: raw arguments by name, as expressions; {b} is the number of the sane call's statement.
        before: statements that come first.
        expects: the right codes, where they do not follow from the parameters alone.
        same: a success has to answer what the sane call answers.
        needs_result: only asked where the sane call answered 2 or more.
    """

    changes: dict[str, str]
    before: tuple[str, ...] = ()
    expects: frozenset[ErrorCode] = frozenset()
    same: bool = False
    needs_result: bool = False


def wanted(*codes: str) -> frozenset[ErrorCode]:
    """Error codes by name."""
    return frozenset(ErrorCode[code] for code in codes)


def window_bytes(function: Function, param: Param, world: World) -> int:
    """Bytes of a window in the sane call."""
    arguments = sane(function.name, world, "S")
    if param.kind == "struct":
        return load_contract().structs[param.struct].size
    element = element_size(param.element)
    if len(param.raw) > 1:
        return int(arguments[param.raw[1]]) * (1 if param.unit == "bytes" else element)
    known = {**world.dims, "ids": len(TOKENS), "hidden": world.hidden_size}
    size = element
    for term in param.count:
        size *= known[term] if isinstance(term, str) else term
    return size


def pointer_cells(function: Function, param: Param, world: World) -> Iterator[Cell]:
    """The window somewhere else, most often where it does not fit."""
    size, name = window_bytes(function, param, world), param.raw[0]
    align = load_contract().structs[param.struct].alignment if param.kind == "struct" else param.alignment
    end = f"E-{-(-size // align) * align}"
    yield Cell({name: end}, before=contents(function, param, world, end), same=True)
    for place in (
        f"{end}+{align}",
        "E-1",
        "E",
        f"E+{align}",
        f"E-{align}",
        str(HALF),
        str(WHOLE - align),
        str(WHOLE - 1),
    ):
        if place != f"E-{align}" or size > align:
            yield Cell({name: place})
    for offset in (1, 2, 4):
        if offset < align:
            yield Cell({name: f"{OUT}+{offset}"})
    if param.kind in ("in", "text"):
        yield Cell({name: "0"})


def contents(function: Function, param: Param, world: World, place: str) -> tuple[str, ...]:
    """Statements that put what the sane call reads elsewhere."""
    source = sane(function.name, world, "S")[param.raw[0]]
    if param.kind == "out":
        return ()
    if param.kind == "text" and source == TEXT:
        return (f"put {place} {WORDS.encode().hex()}",)
    if param.kind == "text":
        return (f"put {place} {world.name.encode()[:128].hex()}",)
    if param.element == "u32":
        return (f"word {place} {' '.join(map(str, TOKENS))}",)
    if param.kind == "struct":
        options = load_contract().structs["GenOptions"].pack(max_tokens=1, temperature=0.0)
        return (f"put {place} {options.hex()}",)
    if param.name == "hidden":
        return (f"call realm_embed_tokens M {IDS} 1 {place}>{place} *1",)
    return ()


def length_cells(function: Function, param: Param, world: World) -> Iterator[Cell]:
    """Another length: none, wrapping, of the whole memory, and of an output one too few."""
    pointer, length = param.raw
    element = 1 if param.unit == "bytes" else element_size(param.element)
    wrapping = {WHOLE // element, WHOLE // element + 1, WHOLE // element + 4} if element > 1 else set[int]()
    for count in sorted({HALF - 1, HALF, WHOLE - 1, *(value for value in wrapping if value < WHOLE)}):
        yield Cell({length: str(count)})
    yield Cell({length: "E"})
    for beyond in (f"E+{param.alignment}", str(HALF), str(WHOLE - param.alignment)):
        yield Cell({pointer: beyond, length: "0"})
    if element == 1:
        yield Cell({pointer: TEXT, length: f"0-{TEXT}"})
        yield Cell({pointer: TEXT, length: f"4-{TEXT}"})
    if param.kind != "out":
        empty = (
            wanted("invalid_argument")
            if function.name in ("realm_embed_tokens", "realm_forward_layer")
            else ()
        )
        yield Cell({length: "0"}, expects=frozenset(empty))
        return
    if param.at_least:
        yield Cell({length: str(int(sane(function.name, world, "S")[length]) - 1)})
    if function.name in TOLD_SIZES:
        unit = 4 if param.element == "u32" and param.unit == "bytes" else 1
        for short, codes in (
            (f"R{{b}}*{unit}-1", wanted("buffer_too_small")),
            (f"R{{b}}*{unit}", frozenset[ErrorCode]()),
        ):
            fresh = (f"fill {sane(function.name, world, 'S')[pointer]} {FRESH}",)
            yield Cell({length: short}, before=fresh, expects=codes, same=not codes, needs_result=True)


FRESH = 64
"""Bytes of an output that are written over first: the sane call's result would hide a part of it."""

TOLD_SIZES = (
    "realm_encode",
    "realm_decode",
    "realm_encode_tokens",
    "realm_decode_tokens",
    "realm_get_model_metadata",
)
"""Functions whose result says how much room they needed."""


def handle_cells(param: Param) -> Iterator[Cell]:
    """Handles that are nobody's, or that were. {freed} is one that was freed."""
    values = [str(HALF), str(WHOLE - 1)]
    if not param.zero:
        values += ["0", str(HALF - 1), "M+1000", "S+1000"]
        values += ["{freed}"] if param.of == "session" else []
    for value in values:
        yield Cell({param.raw[0]: value})


def flag_cells(param: Param) -> Iterator[Cell]:
    """Bits that mean nothing."""
    for value in (1 << len(param.bits), HALF, WHOLE - 1):
        yield Cell({param.raw[0]: str(value)})


def text_cells(param: Param) -> Iterator[Cell]:
    """Bytes that are no UTF-8, at the text's end too."""
    for broken in BROKEN_TEXTS:
        size = str(2 + len(broken) // 2)
        yield Cell(
            {param.raw[0]: OUT, param.raw[1]: size},
            before=(f"put {OUT} 6162{broken}",),
            expects=wanted("invalid_utf8"),
        )


def id_cells(param: Param, world: World) -> Iterator[Cell]:
    """Ids outside of the vocabulary, first and last."""
    place = f"{IDS}+32"
    for ids in (f"{world.vocab_size} 6", f"5 {world.vocab_size}", f"5 {HALF}", f"{WHOLE - 1} 6"):
        changes = {param.raw[0]: place, param.raw[1]: "2"}
        yield Cell(changes, before=(f"word {place} {ids}",), expects=wanted("invalid_argument"))


def scalar_cells(function: Function, world: World) -> Iterator[Cell]:
    """What single functions refuse of their numbers."""
    refused, vocab, hidden = wanted("invalid_argument"), world.vocab_size, world.hidden_size
    if function.name == "realm_forward":
        one = {"n_ids": "1"}
        yield Cell({**one, "rows": "2", "cap": str(2 * vocab)}, expects=refused)
        for rows in (WHOLE // vocab + 1, HALF, WHOLE - 1):
            yield Cell({**one, "rows": str(rows)})
        yield Cell({"n_ids": "0", "rows": "0", "cap": "0"}, expects=refused)
        yield Cell({"rows": "1", "cap": "0"})
    if function.name == "realm_session_truncate":
        for length in (1, HALF, WHOLE - 1):
            yield Cell({"length": str(length)}, expects=refused)
    if function.name == "realm_forward_layer":
        for layer in (world.num_layers, HALF, WHOLE - 1):
            yield Cell({"layer": str(layer)}, expects=refused)
        yield Cell({"position": "7"}, expects=refused)
        for position in (world.context_length, HALF - 1, WHOLE - 1):
            yield Cell({"position": str(position)}, expects=wanted("invalid_argument", "context_full"))
    if function.name in ("realm_forward_layer", "realm_compute_logits"):
        for count in (hidden - 1, hidden + 1, 1):
            yield Cell({"n_f32": str(count)})
