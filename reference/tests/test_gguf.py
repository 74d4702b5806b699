"""A GGUF file is read as the gguf library reads it, and a bad one is one clear error that costs nothing."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realm_reference.model.errors import ModelFileError
from realm_reference.model.gguf import open_gguf
from realm_reference.model.model import load_model

_LIMIT = 16 << 20  # bytes; the tiny model and its tokenizer take about a third of it


def test_reads_what_the_gguf_library_reads(tiny_gguf: Path) -> None:
    ours, theirs = open_gguf(tiny_gguf), gguf.GGUFReader(tiny_gguf)
    fields = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert dict(ours.metadata) == fields
    assert set(ours.tensors) == {tensor.name for tensor in theirs.tensors}
    for tensor in theirs.tensors:
        np.testing.assert_array_equal(ours.tensor(tensor.name), tensor.data)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q6_K"])
def test_dequantises_like_the_gguf_library(tmp_path: Path, kind: str) -> None:
    encoding = gguf.GGMLQuantizationType[kind]
    block_values, block_bytes = gguf.GGML_QUANT_SIZES[encoding]
    blocks = 256 // block_values
    raw = np.random.default_rng(1).integers(0, 64, (6, blocks * block_bytes), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "one.gguf", "llama")
    writer.add_tensor("t", raw, raw_dtype=encoding)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    values = open_gguf(tmp_path / "one.gguf").tensor("t")
    assert values.shape == (6, 256)
    np.testing.assert_array_equal(values, gguf.quants.dequantize(raw, encoding))


def _header(n_tensors: int, n_entries: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_entries) + rest


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


_HUGE = 2**60
_LIES = {
    "empty": b"",
    "two bytes": b"GG",
    "a zip": b"PK\x03\x04" + bytes(60),
    "an old version": _header(0, 0, version=1),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "cut in the counts": _header(0, 0)[:14],
    "2**60 tensors": _header(_HUGE, 0, bytes(16)),
    "2**60 entries": _header(0, _HUGE, bytes(16)),
    "a key of 2**60 bytes": _header(0, 1, struct.pack("<QQ", _HUGE, 0)),
    "a string of 2**60 bytes": _header(0, 1, _string(b"k") + struct.pack("<IQ", 8, _HUGE)),
    "an array of 2**60 bytes": _header(0, 1, _string(b"k") + struct.pack("<IIQ", 9, 0, _HUGE)),
    "an array of 2**60 strings": _header(0, 1, _string(b"k") + struct.pack("<IIQ", 9, 8, _HUGE)),
    "arrays in arrays": _header(
        0, 1, _string(b"k") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 9, 1) * 50
    ),
    "an unknown value type": _header(0, 1, _string(b"k") + struct.pack("<I", 99)),
    "the same key twice": _header(0, 2, (_string(b"k") + struct.pack("<IB", 0, 1)) * 2),
    "alignment 3": _header(0, 1, _string(b"general.alignment") + struct.pack("<II", 4, 3)),
    "alignment 0": _header(0, 1, _string(b"general.alignment") + struct.pack("<II", 4, 0)),
    "a tensor of 2**60 rows": _header(1, 0, _string(b"t") + struct.pack("<IQIQ", 1, _HUGE, 0, 0)),
    "a tensor beyond the end": _header(
        1, 0, _string(b"t") + struct.pack("<IQIQ", 1, 4, 0, _HUGE) + bytes(64)
    ),
    "a product beyond 64 bits": _header(1, 0, _string(b"t") + struct.pack("<I4QIQ", 4, *[2**40] * 4, 0, 0)),
    "no dimensions": _header(1, 0, _string(b"t") + struct.pack("<IIQ", 0, 0, 0) + bytes(64)),
    "2**31 dimensions": _header(1, 0, _string(b"t") + struct.pack("<IQQ", 2**31, 0, 0) + bytes(64)),
    "half a block": _header(1, 0, _string(b"t") + struct.pack("<IQIQ", 1, 31, 8, 0) + bytes(64)),
    "the same tensor twice": _header(
        2, 0, (_string(b"t") + struct.pack("<IQIQ", 1, 4, 0, 0)) * 2 + bytes(64)
    ),
    "an unknown encoding": _header(1, 0, _string(b"t") + struct.pack("<IQIQ", 1, 32, 4000, 0) + bytes(64)),
}


@pytest.mark.parametrize("lie", _LIES)
def test_a_lie_is_one_clear_error_and_no_allocation(tmp_path: Path, lie: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(_LIES[lie])
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError) as caught:
            open_gguf(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert ";" in message, "the remedy is missing"
    assert peak < 1 << 20


def test_forty_bytes_cannot_ask_for_memory(tmp_path: Path) -> None:
    upload = _header(_HUGE, _HUGE, bytes(16))
    assert len(upload) == 40
    (tmp_path / "upload.gguf").write_bytes(upload)
    with pytest.raises(ModelFileError, match=r"1152921504606846976, more than the \d+ bytes that are left"):
        open_gguf(tmp_path / "upload.gguf")


def test_an_encoding_without_numbers_is_refused(tmp_path: Path) -> None:
    name, raw = _string(b"t"), bytes(64)
    kind = gguf.GGMLQuantizationType.I32
    (tmp_path / "odd.gguf").write_bytes(_header(1, 0, name + struct.pack("<IQIQ", 1, 4, kind, 0) + raw))
    with pytest.raises(ModelFileError, match="encoded as I32"):
        open_gguf(tmp_path / "odd.gguf").tensor("t")


def test_a_missing_file_and_a_folder_are_clear(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.gguf", tmp_path):
        with pytest.raises(ModelFileError, match="cannot be read"):
            open_gguf(path)


def _refusal(path: Path) -> str | None:
    try:
        load_model(path)
    except ModelFileError as error:
        return str(error)
    return None


def _loads_or_is_refused(path: Path) -> None:
    tracemalloc.start()
    try:
        refusal = _refusal(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < _LIMIT
    if refusal is not None:
        assert str(path) in refusal
        assert "\n" not in refusal


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_truncated_file_is_refused(
    tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = tiny_gguf.read_bytes()
    path = tmp_path_factory.getbasetemp() / "truncated.gguf"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 64), label="length")])
    with pytest.raises(ModelFileError):
        load_model(path)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_mutated_header_loads_or_is_refused(
    tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(tiny_gguf.read_bytes())
    header_end = min(info.offset for info in open_gguf(tiny_gguf).tensors.values())
    patches = st.one_of(
        st.binary(min_size=1, max_size=4),
        st.integers(0, 2**64 - 1).map(lambda number: struct.pack("<Q", number)),
        st.sampled_from([b"\xff" * 8, struct.pack("<Q", _HUGE), struct.pack("<I", 2**31)]),
    )
    for _ in range(data.draw(st.integers(1, 3), label="patches")):
        at = data.draw(st.integers(0, header_end - 8), label="at")
        patch = data.draw(patches, label="patch")
        content[at : at + len(patch)] = patch
    path = tmp_path_factory.getbasetemp() / "mutated.gguf"
    path.write_bytes(content)
    _loads_or_is_refused(path)


@given(
    key=st.integers(0, 40),
    value=st.one_of(st.integers(0, 2**32 - 1), st.floats(width=32), st.text(max_size=8), st.booleans()),
)
@settings(max_examples=100, deadline=None)
def test_any_value_under_any_key_loads_or_is_refused(
    tiny_gguf: Path, make_gguf: Callable[..., Path], key: int, value: Any
) -> None:
    keys = [k for k in open_gguf(tiny_gguf).metadata if k != "general.architecture"]
    path = make_gguf({keys[key % len(keys)]: value})
    _loads_or_is_refused(path)
    path.unlink()
