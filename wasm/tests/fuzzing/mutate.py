"""Mutated guests: a seed decides which module is spoiled, where and how.

Three depths: bytes (a damaged file), sections (a broken builder), and code (a wrong guest: other constants,
operators and callees in a module that is often still valid, and so runs).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import wasmtime
from realm_abi.guests import guest_bytes
from realm_abi.page import example

HOSTILE = (0, 1, 2, 3, 7, 63, 64, 255, 4096, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1)
BYTES = (0x00, 0x01, 0x0B, 0x40, 0x7F, 0x80, 0xFF)
CODE = 10
FAMILIES = (
    range(0x46, 0x50),  # i32 comparisons
    range(0x6A, 0x79),  # i32 arithmetic
    range(0x5B, 0x61),  # f32 comparisons
    (0x02, 0x03, 0x04),  # block, loop, if
    (0x0C, 0x0D),  # br, br_if
    (0x20, 0x21, 0x22),  # local.get, local.set, local.tee
    (0x23, 0x24),  # global.get, global.set
    (0x28, 0x2C, 0x2D, 0x2E, 0x2F),  # i32 loads
    (0x36, 0x3A, 0x3B),  # i32 stores
    (0x00, 0x01, 0x0F, 0x1A),  # unreachable, nop, return, drop
    (0x3F, 0x40, 0x10, 0x11),  # memory.size, memory.grow, call, call_indirect
)
INTEGER = re.compile(r"(?<=const )(-?\d+|0x[0-9a-f]+)")
Chance = random.Random


def mutant(seed: int) -> bytes:
    """The module of a seed; b"" where a text came out that is no WAT."""
    chance = Chance(seed)
    if chance.random() < 0.4:
        return spoiled_text(chance)
    wasm = chance.choice(SOURCES)()
    mutators: list[Callable[[bytes, Chance], bytes]] = [spoil_bytes, spoil_sections, spoil_code, spoil_code]
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        wasm = chance.choice(mutators)(wasm, chance)
    return wasm


def spoiled_text(chance: Chance) -> bytes:
    """One of the page's guests with a literal changed, or with lines left out, doubled or exchanged."""
    lines = example(chance.choice((1, 2))).splitlines()
    for _ in range(chance.choice((1, 1, 2, 3))):
        at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        kind = chance.randrange(9)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, lines[at])
        elif kind == 2:
            lines[at], lines[other] = lines[other], lines[at]
        else:
            numbered = [n for n, line in enumerate(lines) if INTEGER.search(line)]
            at = chance.choice(numbered)
            hits = list(INTEGER.finditer(lines[at]))
            hit = chance.choice(hits)
            lines[at] = f"{lines[at][: hit.start()]}{chance.choice(HOSTILE)}{lines[at][hit.end() :]}"
    try:
        return bytes(wasmtime.wat2wasm("\n".join(lines)))
    except wasmtime.WasmtimeError:
        return b""


def spoil_bytes(wasm: bytes, chance: Chance) -> bytes:
    """A damaged file: bits turned, bytes replaced, pieces lost, doubled or cut off."""
    data = bytearray(wasm)
    at = chance.randrange(len(data) + 1)
    size = chance.choice((1, 1, 2, 8, 100))
    kind = chance.randrange(6)
    if kind == 0:
        data[at : at + size] = bytes(byte ^ (1 << chance.randrange(8)) for byte in data[at : at + size])
    elif kind == 1:
        data[at : at + 1] = bytes([chance.choice(BYTES)])
    elif kind == 2:
        del data[at : at + size]
    elif kind == 3:
        data[at:at] = data[at : at + size]
    elif kind == 4:
        data[at:at] = chance.randbytes(size)
    else:
        del data[at:]
    return bytes(data)


def spoil_sections(wasm: bytes, chance: Chance) -> bytes:
    """A broken builder: sections exchanged, lost, doubled, shortened, misnamed, from another module."""
    sections = sections_of(wasm)
    if not sections:
        return spoil_bytes(wasm, chance)
    at, other = chance.randrange(len(sections)), chance.randrange(len(sections))
    kind, body = sections[at]
    what = chance.randrange(7)
    if what == 0:
        sections[at], sections[other] = sections[other], sections[at]
    elif what == 1:
        del sections[at]
    elif what == 2:
        sections.insert(other, sections[at])
    elif what == 3:
        sections[at] = (kind, body[: chance.randrange(len(body) + 1)])
    elif what == 4:
        sections[at] = (chance.randrange(14), body)
    elif what == 5:
        sections[at] = (kind, spoil_bytes(body, chance))
    else:
        donors = [section for section in sections_of(chance.choice(SOURCES)()) if section[0] == kind]
        sections[at] = chance.choice(donors) if donors else (kind, b"")
    return wasm[:8] + b"".join(bytes([kind]) + leb(len(body)) + body for kind, body in sections)


def spoil_code(wasm: bytes, chance: Chance) -> bytes:
    """A wrong guest: a constant, an operator or a callee in one function is another."""
    sections = sections_of(wasm)
    index = next((n for n, (kind, _) in enumerate(sections) if kind == CODE), None)
    if index is None:
        return spoil_bytes(wasm, chance)
    bodies = functions_of(sections[index][1])
    if not bodies:
        return spoil_bytes(wasm, chance)
    at = chance.randrange(len(bodies))
    bodies[at] = spoil_body(bodies[at], chance)
    code = leb(len(bodies)) + b"".join(leb(len(body)) + body for body in bodies)
    sections[index] = (CODE, code)
    return wasm[:8] + b"".join(bytes([kind]) + leb(len(body)) + body for kind, body in sections)


def spoil_body(body: bytes, chance: Chance) -> bytes:
    """Exchanges an instruction for one of its family, or a constant for a hostile one."""
    data = bytearray(body)
    if chance.random() < 0.5:
        consts = [at for at, byte in enumerate(data) if byte == 0x41]
        if consts:
            at = chance.choice(consts) + 1
            end = at
            while end < len(data) and data[end] & 0x80:
                end += 1
            data[at : end + 1] = signed_leb(chance.choice(HOSTILE))
            return bytes(data)
    places = [(at, family) for at, byte in enumerate(data) for family in FAMILIES if byte in family]
    if places:
        at, family = chance.choice(places)
        data[at] = chance.choice(tuple(family))
    return bytes(data)


def sections_of(wasm: bytes) -> list[tuple[int, bytes]]:
    """The sections of a module as (kind, contents), as far as they can be read."""
    found: list[tuple[int, bytes]] = []
    at = 8
    while at < len(wasm):
        size, start = read_leb(wasm, at + 1)
        found.append((wasm[at], wasm[start : start + size]))
        at = start + size
    return found


def functions_of(code: bytes) -> list[bytes]:
    """The bodies in a code section, as far as they can be read."""
    count, at = read_leb(code, 0)
    found = []
    while at < len(code) and len(found) < count:
        size, start = read_leb(code, at)
        found.append(code[start : start + size])
        at = start + size
    return found


def read_leb(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number and where it ends; what is cut off counts as 0."""
    value = shift = 0
    while at < len(data) and shift < 35:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            break
    return value, at


def leb(value: int) -> bytes:
    """An unsigned number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def signed_leb(value: int) -> bytes:
    """A number as the signed 32 bits of an i32.const."""
    value -= (value >> 31) << 32
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value & 0x7F])


SOURCES: tuple[Callable[[], bytes], ...] = (
    lambda: guest_bytes("v1"),
    lambda: guest_bytes("v2"),
    lambda: bytes(wasmtime.wat2wasm(example(1))),
    lambda: bytes(wasmtime.wat2wasm(example(2))),
)
