"""Modules that no host may take, byte by byte: what a compiler would not let through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from realm_abi.contract import Function, load_contract

HEADER = b"\0asm\1\0\0\0"
COMPONENT = b"\0asm\x0d\0\1\0"
TYPES = {"i32": 0x7F, "i64": 0x7E, "f32": 0x7D}
FUNCTION, MEMORY = 0, 2
UNREACHABLE, CALL, END, CONST, LOOP, BRANCH, DROP = 0x00, 0x10, 0x0B, 0x41, 0x03, 0x0C, 0x1A
EMPTY_BLOCK = 0x40
HANG = bytes([LOOP, EMPTY_BLOCK, BRANCH, 0, END])
"""A loop without end."""


@dataclass(frozen=True)
class Import:
    """An import; `params` are its types, all answer an i32."""

    name: str
    params: tuple[str, ...] = ()
    module: str = "env"
    is_memory: bool = False


def contract_import(name: str) -> Import:
    """An import as the contract has it."""
    return Import(name, load_contract().imports[name].wasm_params)


SPEAKS_V2 = (contract_import("realm_abi_version"), contract_import("realm_session_open"))


def module(
    *,
    imports: Sequence[Import] = SPEAKS_V2,
    exports: Sequence[str] = ("memory", "generate", "realm_alloc"),
    pages: int = 2,
    memory_flags: int = 0,
    start: bytes | None = None,
    alloc: bytes = b"",
    version: int = 2,
) -> bytes:
    """A small guest that is right but for what the arguments change; its `generate` traps.

    `start` is the body of a start function, `alloc` what realm_alloc does before it answers; `memory_flags`
    is 4 for a 64-bit memory.
    """
    functions = load_contract().exports[version]
    own = [functions[name] for name in functions if name in exports]
    types = [_type(item.params) for item in imports if not item.is_memory]
    types += [_type(function.wasm_params) for function in own]
    started = start is not None
    types += [b"\x60" + _vector([]) + _vector([])] if started else []
    imported = sum(not item.is_memory for item in imports)
    bodies = [_body(_export_body(function, alloc)) for function in own] + (
        [_body(start)] if start is not None else []
    )
    has_memory = not any(item.is_memory for item in imports)
    sections = [
        (1, _vector(types)),
        (2, _vector(_imports(imports))),
        (3, _vector([_number(imported + place) for place in range(len(bodies))])),
        (5, _vector([bytes([memory_flags]) + _number(pages)] if has_memory else [])),
        (7, _vector(_exports(exports, own, imported))),
        *([(8, _number(imported + len(own)))] if started else []),
        (10, _vector(bodies)),
    ]
    return HEADER + b"".join(bytes([number]) + _number(len(data)) + data for number, data in sections)


def calling_start() -> bytes:
    """The body of a start function that calls the first import, which takes nothing."""
    return bytes([CALL, 0, DROP])


def calling_alloc() -> bytes:
    """A body that calls both imports of `SPEAKS_V2`: for the version, and for a session of model 1."""
    return bytes([CALL, 0, DROP, CONST, 1, CALL, 1, DROP])


def _export_body(function: Function, alloc: bytes) -> bytes:
    return alloc + bytes([CONST]) + _number(4096) if function.name == "realm_alloc" else bytes([UNREACHABLE])


def _imports(imports: Sequence[Import]) -> list[bytes]:
    places = iter(range(len(imports)))
    found = []
    for item in imports:
        kind = bytes([MEMORY, 0, 1]) if item.is_memory else bytes([FUNCTION]) + _number(next(places))
        found.append(_text(item.module) + _text(item.name) + kind)
    return found


def _exports(names: Sequence[str], own: Sequence[Function], imported: int) -> list[bytes]:
    found = [_text("memory") + bytes([MEMORY, 0])] if "memory" in names else []
    for place, function in enumerate(own):
        found.append(_text(function.name) + bytes([FUNCTION]) + _number(imported + place))
    return found


def _type(params: Sequence[str]) -> bytes:
    return b"\x60" + _vector([bytes([TYPES[kind]]) for kind in params]) + _vector([bytes([TYPES["i32"]])])


def _body(code: bytes) -> bytes:
    whole = _vector([]) + code + bytes([END])
    return _number(len(whole)) + whole


def _text(text: str) -> bytes:
    return _number(len(text.encode())) + text.encode()


def _vector(items: Sequence[bytes]) -> bytes:
    return _number(len(items)) + b"".join(items)


def _number(value: int) -> bytes:
    """LEB128 of a number >= 0; as a signed constant it has to stay below 64 or have room in its last byte."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)
