"""A packed matrix as compiled code knows it: a record of numbers, the address of its blocks among them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from realm_reference.compute.jit.layout import (
    DENSE,
    EIGHT_BIT,
    EIGHT_BIT_HALF,
    FOUR_BIT,
    LANES,
    PackedMatrix,
)

MATRIX: Final = np.dtype(
    [("kind", "i8"), ("address", "i8"), ("tiles", "i8"), ("blocks", "i8"), ("inputs", "i8"), ("column", "i8")]
)
"""`kind` 0 stands for none. `column` is where its outputs begin in a row of results: those of several
matrices lie side by side.
"""

IS_FOUR, IS_EIGHT, IS_HALF, IS_DENSE = range(1, 5)
_KINDS: Final = {FOUR_BIT: IS_FOUR, EIGHT_BIT: IS_EIGHT, EIGHT_BIT_HALF: IS_HALF, DENSE: IS_DENSE}

VECTOR: Final = 4 * LANES
"""Bytes of a vector: a quad of codes, the scales of a block, or the float weights of one input."""


def _offset(block: np.dtype[Any], field: str) -> int:
    fields = block.fields
    assert fields is not None
    return fields[field][1]


FOUR_BYTES, FOUR_SCALES = FOUR_BIT.itemsize, _offset(FOUR_BIT, "scales")
FOUR_MINIMUMS: Final = _offset(FOUR_BIT, "minimums")
DENSE_BYTES: Final = DENSE.itemsize
QUADS, HALF_QUADS = _offset(EIGHT_BIT, "scales") // VECTOR, _offset(EIGHT_BIT_HALF, "scales") // VECTOR


def describe(matrix: PackedMatrix, column: int = 0) -> tuple[int, ...]:
    """The fields of `MATRIX`; the packed matrix has to be kept alive."""
    tiles, blocks = matrix.blocks.shape
    kind = _KINDS[matrix.blocks.dtype]
    return kind, matrix.blocks.ctypes.data, tiles, blocks, matrix.inputs, column
