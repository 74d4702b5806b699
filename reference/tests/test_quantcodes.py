"""Codes lose nothing, packed or not: their values are the gguf library's, for blocks of any bytes."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from hypothesis import given
from hypothesis import strategies as st
from realm_reference.compute.jit.packing import pack, unpack
from realm_reference.model.quantcodes import decode

KINDS = ["Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q6_K", "Q8_0"]
SCALES_AT = {"Q4_0": (0,), "Q4_1": (0, 2), "Q4_K": (0, 2), "Q5_0": (0,), "Q6_K": (208,), "Q8_0": (0,)}


def random_rows(kind: str, rows: int, blocks: int, seed: int) -> np.ndarray:
    """Random bytes, but for the float16 scales, which are finite: small and large, negative and zero."""
    size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]][1]
    draw = np.random.default_rng(seed)
    raw = draw.integers(0, 256, (rows, blocks, size), np.uint8)
    for begin in SCALES_AT[kind]:
        scales = draw.standard_normal((rows, blocks)) * 10.0 ** draw.integers(-7, 4, (rows, blocks))
        scales[draw.random((rows, blocks)) < 0.1] = 0
        raw[..., begin : begin + 2] = scales.astype(np.float16)[..., None].view(np.uint8)
    return raw.reshape(rows, -1)


@pytest.mark.parametrize("kind", KINDS)
@given(rows=st.integers(1, 40), blocks=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_values_are_the_librarys(kind: str, rows: int, blocks: int, seed: int) -> None:
    raw = random_rows(kind, rows, blocks, seed)
    codes = decode(raw, GGMLQuantizationType[kind])
    assert codes is not None
    if codes.minimum is not None:
        assert codes.codes.min() >= 0
        assert codes.codes.max() <= 15
    truth = dequantize(raw, GGMLQuantizationType[kind])
    np.testing.assert_array_equal(codes.values(), truth)
    np.testing.assert_array_equal(unpack(pack(codes)), truth)


def test_an_encoding_of_another_make_has_no_codes() -> None:
    assert decode(np.zeros((1, 64), np.uint8), GGMLQuantizationType.F16) is None
