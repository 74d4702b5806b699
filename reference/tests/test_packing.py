"""Matrices in the kernels' layout: every number in its place, and padding that adds nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_reference.compute.jit.layout import ALIGNMENT, EIGHT_BIT, EIGHT_BIT_HALF, FOUR_BIT, LANES
from realm_reference.compute.jit.packing import Codes, pack, unpack


def some_codes(outputs: int, blocks: int, group: int = 32, *, minimum: bool = False, seed: int = 1) -> Codes:
    draw = np.random.default_rng(seed)
    low, high = (0, 16) if minimum else (-128, 128)
    numbers = draw.standard_normal((2, outputs, blocks), np.float32)
    return Codes(
        draw.integers(low, high, (outputs, blocks * group), np.int8),
        numbers[0],
        numbers[1] if minimum else None,
    )


@pytest.mark.parametrize("kind", [(32, True), (32, False), (16, False)])
@given(outputs=st.integers(1, 50), pairs=st.integers(1, 3), seed=st.integers(0, 99))
def test_codes_survive(kind: tuple[int, bool], outputs: int, pairs: int, seed: int) -> None:
    matrix = some_codes(outputs, 2 * pairs, kind[0], minimum=kind[1], seed=seed)
    packed = pack(matrix)
    assert packed.blocks.ctypes.data % ALIGNMENT == 0
    np.testing.assert_array_equal(unpack(packed), matrix.values(), strict=True)
    rows = np.array([outputs - 1, 0, outputs // 2])
    np.testing.assert_array_equal(unpack(packed, rows), matrix.values()[rows])


@given(outputs=st.integers(1, 50), inputs=st.integers(1, 100))
def test_floats_survive_in_any_shape(outputs: int, inputs: int) -> None:
    values = np.random.default_rng(0).standard_normal((outputs, inputs), np.float32)
    np.testing.assert_array_equal(unpack(pack(values)), values, strict=True)


def test_a_code_lies_where_the_kernels_look_for_it() -> None:
    four, eight = some_codes(20, 3, minimum=True), some_codes(20, 3)
    blocks = pack(four).blocks
    assert blocks.dtype == FOUR_BIT
    assert blocks[1, 2]["codes"][3, 1, 2] == int(four.codes[17, 78]) | int(four.codes[17, 94]) << 4
    assert blocks[1, 2]["minimums"][1] == four.minimum[17, 2]  # type: ignore[index]
    blocks = pack(eight).blocks
    assert blocks.dtype == EIGHT_BIT
    assert blocks[1, 2]["codes"][7, 1, 3] == int(eight.codes[17, 95]) + 128
    assert blocks[1, 2]["scales"][1] == eight.scale[17, 2]
    halves = some_codes(20, 6, 16)
    assert pack(halves).blocks.dtype == EIGHT_BIT_HALF
    assert pack(halves).blocks[1, 5]["codes"][3, 1, 3] == int(halves.codes[17, 95]) + 128


def test_padding_stands_for_zero() -> None:
    for matrix, zero in ((some_codes(1, 1), 128), (some_codes(1, 1, minimum=True), 0)):
        blocks = pack(matrix).blocks
        assert (blocks["codes"][..., 1:LANES, :] == zero).all()
        assert not blocks["scales"][..., 1:].any()


def test_groups_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="each 8 codes"):
        pack(some_codes(1, 4, 8))


def test_rows_are_chosen_with_their_scales() -> None:
    matrix = some_codes(9, 2, minimum=True)
    order = np.array([8, 0, 0, 3])
    np.testing.assert_array_equal(matrix.rows(order).values(), matrix.values()[order])
