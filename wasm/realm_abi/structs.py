"""Struct layouts of the contract: fields at offsets, packed and unpacked as little-endian bytes."""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass

FORMATS: Mapping[str, str] = {"u8": "B", "u32": "I", "u64": "Q", "f32": "f"}


@functools.cache
def element_size(element: str) -> int:
    """Bytes of one element of a type named as in the contract (`u8`, `u32`, `u64`, `f32`)."""
    return struct.calcsize("<" + FORMATS[element])


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct; `default` is what it holds when nobody says otherwise."""

    name: str
    type: str
    offset: int
    default: int | float
    doc: str


@dataclass(frozen=True, slots=True)
class Array:
    """An array elsewhere in guest memory that two fields of a struct, a pointer and a count, describe."""

    name: str
    pointer: str
    count: str
    element: str


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct as both sides of the ABI see it: natural alignment, little-endian, padding is zero."""

    name: str
    version: int
    size: int
    doc: str
    fields: tuple[Field, ...]
    flags: tuple[str, ...] = ()
    arrays: tuple[Array, ...] = ()

    @property
    def alignment(self) -> int:
        """The largest alignment of a field."""
        return max(element_size(field.type) for field in self.fields)

    def pack(self, **values: int | float) -> bytes:
        """The struct's bytes; fields not named hold their defaults.

        Raises ValueError for a name that is no field and for a value that its field cannot hold.
        """
        unknown = values.keys() - {field.name for field in self.fields}
        if unknown:
            raise ValueError(f"{self.name} has no field {', '.join(sorted(unknown))}")
        packed = bytearray(self.size)
        for field in self.fields:
            value = values.get(field.name, field.default)
            try:
                struct.pack_into("<" + FORMATS[field.type], packed, field.offset, value)
            except (struct.error, OverflowError) as error:
                raise ValueError(f"{self.name}.{field.name} = {value!r}: {error}") from None
        return bytes(packed)

    def unpack(self, packed: bytes | bytearray | memoryview) -> dict[str, int | float]:
        """The fields of `size` bytes, by name."""
        return {
            field.name: struct.unpack_from("<" + FORMATS[field.type], packed, field.offset)[0]
            for field in self.fields
        }

    def defaults(self) -> dict[str, int | float]:
        """What the fields hold when nobody says otherwise."""
        return {field.name: field.default for field in self.fields}

    def flag(self, name: str) -> int:
        """The bit that stands for a named flag of the field `flags`."""
        return 1 << self.flags.index(name)
