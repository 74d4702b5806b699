"""Reading a GGUF file without trusting it.

Every count, length and offset in a GGUF header is a 64-bit number that somebody else wrote: a 40-byte file
can ask for 2**60 tensors. The header is therefore walked once by a cursor that knows the size of the file.
It refuses a claim as soon as the bytes that are left cannot hold it, so that neither memory nor time ever
follows a number from the file. What the formats are (value types, block sizes, dequantisation) comes from
the `gguf` library; its own reader is not used, because it trusts the header.

Source of the layout: the GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from gguf.quants import dequantize
from numpy.typing import NDArray

from realm_reference.model.errors import ModelFileError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MAX_ALIGNMENT = 1 << 16
_MAX_DIMENSIONS = 4
_MAX_ARRAY_DEPTH = 2
_REMEDY = "fetch the file again, or convert the model again"

# struct codes of the fixed-size value types; strings and arrays are read by their own methods.
_SCALARS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}
# The fewest bytes that one array element, one metadata entry and one tensor description can take.
_MIN_STRING_BYTES = 8
_MIN_ENTRY_BYTES = 8 + 4 + 1
_MIN_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8


class _Malformed(Exception):
    """The header contradicts itself or the size of the file."""


class _Cursor:
    """A position in the file's bytes that never moves past their end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.offset = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.offset

    def take(self, size: int, what: str) -> bytes:
        if size > self.left:
            raise _Malformed(f"{what} needs {size} bytes, but only {self.left} are left")
        start, self.offset = self.offset, self.offset + size
        return self.data[start : self.offset]

    def scalar(self, code: str, what: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code), what))[0]

    def count(self, minimum_bytes: int, what: str) -> int:
        """A u64 count of things that take at least `minimum_bytes` each: believed only if the file can hold
        them.
        """
        count: int = self.scalar("Q", what)
        if count * minimum_bytes > self.left:
            raise _Malformed(f"{what} is {count}, more than the {self.left} bytes that are left can hold")
        return count

    def raw_string(self, what: str) -> bytes:
        return self.take(self.count(1, f"the length of {what}"), what)

    def string(self, what: str) -> str:
        """A length-prefixed string; invalid UTF-8 is kept readable, because vocabularies contain it."""
        return self.raw_string(what).decode("utf-8", errors="replace")

    def value(self, kind: int, what: str, depth: int = 0) -> Any:
        """One metadata value: a scalar, a string, or an array of either as a list."""
        if kind == GGUFValueType.STRING:
            return self.string(what)
        if kind == GGUFValueType.ARRAY:
            return self._array(what, depth)
        if kind in _SCALARS:
            return self.scalar(_SCALARS[GGUFValueType(kind)], what)
        raise _Malformed(f"{what} has the unknown value type {kind}")

    def _array(self, what: str, depth: int) -> list[Any]:
        kind = self.scalar("I", f"the element type of {what}")
        if kind in _SCALARS:
            code = _SCALARS[GGUFValueType(kind)]
            size = struct.calcsize("<" + code)
            count = self.count(size, f"the length of {what}")
            return list(struct.unpack(f"<{count}{code}", self.take(count * size, what)))
        if kind == GGUFValueType.STRING:
            return [self.string(what) for _ in range(self.count(_MIN_STRING_BYTES, f"the length of {what}"))]
        if kind == GGUFValueType.ARRAY and depth < _MAX_ARRAY_DEPTH:
            return [self._array(what, depth + 1) for _ in range(self.count(12, f"the length of {what}"))]
        raise _Malformed(f"{what} is an array of the unsupported element type {kind}")


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies in the file and how it is encoded; `shape` is in NumPy's order (rows first)."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    n_bytes: int


@dataclass(frozen=True)
class GGUFFile:
    """The metadata and the tensors of one checked GGUF file; tensor data stays in the file until it is
    asked for.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    _data: mmap.mmap

    def tensor(self, name: str) -> NDArray[np.float32]:
        """The dequantised tensor as float32, in NumPy's order of dimensions and in memory of its own.

        Raises ModelFileError when it is missing or its encoding is one that the gguf library cannot read.
        """
        info = self.tensors.get(name)
        if info is None:
            raise self.error(f"the tensor {name} is missing")
        try:
            values: NDArray[np.float32] = dequantize(self.encoded(info), info.kind)
        except NotImplementedError:
            raise self.error(
                f"the tensor {name} is encoded as {info.kind.name}, which cannot be read"
            ) from None
        # Float32 is not converted and would stay a view of the file, which may change under a running server.
        return values.reshape(info.shape).copy() if info.kind == GGMLQuantizationType.F32 else values

    def encoded(self, info: TensorInfo) -> NDArray[np.uint8]:
        """The bytes of a tensor as they are, [..., bytes of a row]: a view of the file."""
        raw = np.frombuffer(self._data, np.uint8, info.n_bytes, info.offset)
        return raw.reshape(*info.shape[:-1], -1)

    def count(self, name: str) -> int:
        """The number of numbers in a tensor."""
        return math.prod(self.tensors[name].shape)

    def sample(self) -> bytes:
        """The header and the first bytes of each tensor: what tells two files apart without reading them
        whole.
        """
        infos = self.tensors.values()
        header = self._data[: min((info.offset for info in infos), default=len(self._data))]
        return b"".join([header, *(self._data[info.offset : info.offset + 64] for info in infos)])

    def error(self, fault: str, remedy: str = _REMEDY) -> ModelFileError:
        """The error that names this file, what is wrong with it, and what to do."""
        return ModelFileError(f"{self.path}: {fault}; {remedy}")


def open_gguf(path: str | Path) -> GGUFFile:
    """Check the header of the GGUF file at `path` (versions 2 and 3, little-endian) and map its data.

    Raises ModelFileError, naming the file and the fault, for a file that is absent, foreign, truncated or
    inconsistent. Memory and time stay within a small multiple of the header's real size.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise ModelFileError(f"{path}: the file is empty; {_REMEDY}") from None
    except OSError as error:
        raise ModelFileError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from None
    try:
        metadata, tensors = _read_header(_Cursor(data))
    except _Malformed as fault:
        raise ModelFileError(f"{path}: not a sound GGUF file: {fault}; {_REMEDY}") from None
    return GGUFFile(path, MappingProxyType(metadata), MappingProxyType(tensors), data)


def _read_header(cursor: _Cursor) -> tuple[dict[str, Any], dict[str, TensorInfo]]:
    if cursor.take(min(4, cursor.left), "the magic") != _MAGIC:
        raise _Malformed("it does not begin with GGUF")
    version = cursor.scalar("I", "the version")
    if version not in _VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        hint = " (a big-endian file)" if swapped in _VERSIONS else ""
        raise _Malformed(f"its version is {version}{hint}, and only little-endian versions 2 and 3 are read")
    n_tensors = cursor.count(_MIN_TENSOR_BYTES, "the number of tensors")
    n_entries = cursor.count(_MIN_ENTRY_BYTES, "the number of metadata entries")
    metadata: dict[str, Any] = {}
    for _ in range(n_entries):
        key = cursor.string("a metadata key")
        if key in metadata:
            raise _Malformed(f"the metadata key {key[:80]!r} occurs twice")
        metadata[key] = cursor.value(
            cursor.scalar("I", f"the type of {key[:80]!r}"), f"the value of {key[:80]!r}"
        )
    descriptions = [_read_tensor(cursor) for _ in range(n_tensors)]
    return metadata, _place(descriptions, _data_start(cursor.offset, metadata), len(cursor.data))


def _read_tensor(cursor: _Cursor) -> TensorInfo:
    """One tensor description; its offset is still relative to the start of the data."""
    name = cursor.string("a tensor's name")
    what = f"tensor {name[:80]!r}"
    n_dims = cursor.scalar("I", f"the dimensions of {what}")
    if not 1 <= n_dims <= _MAX_DIMENSIONS:
        raise _Malformed(f"{what} has {n_dims} dimensions, not 1 to {_MAX_DIMENSIONS}")
    shape = tuple(cursor.scalar("Q", f"a dimension of {what}") for _ in range(n_dims))[::-1]
    kind, offset = cursor.scalar("I", f"the encoding of {what}"), cursor.scalar("Q", f"the offset of {what}")
    try:
        encoding = GGMLQuantizationType(kind)
        block_values, block_bytes = GGML_QUANT_SIZES[encoding]
    except (ValueError, KeyError):
        raise _Malformed(f"{what} has the unknown encoding {kind}") from None
    if 0 in shape or shape[-1] % block_values:
        raise _Malformed(f"{what} of shape {shape} does not consist of whole {encoding.name} blocks")
    return TensorInfo(name, shape, encoding, offset, math.prod(shape) // block_values * block_bytes)


def _data_start(header_end: int, metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
        raise _Malformed(
            f"general.alignment is {str(alignment)[:40]}, not a power of two up to {_MAX_ALIGNMENT}"
        )
    return -(-header_end // alignment) * alignment


def _place(descriptions: list[TensorInfo], start: int, file_size: int) -> dict[str, TensorInfo]:
    """Give each tensor its absolute offset, and refuse one that does not lie within the file."""
    placed: dict[str, TensorInfo] = {}
    for info in descriptions:
        end = start + info.offset + info.n_bytes
        if end > file_size:
            raise _Malformed(
                f"tensor {info.name[:80]!r} ends at byte {end}, but the file has {file_size} (truncated?)"
            )
        if info.name in placed:
            raise _Malformed(f"tensor {info.name[:80]!r} occurs twice")
        placed[info.name] = TensorInfo(info.name, info.shape, info.kind, start + info.offset, info.n_bytes)
    return placed
