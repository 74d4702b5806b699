"""One output of a packed matrix in float32: a token's embedding."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from realm_reference.compute.jit.compiled import compiled
from realm_reference.compute.jit.layout import LANES
from realm_reference.compute.jit.matrix import (
    DENSE_BYTES,
    FOUR_BYTES,
    FOUR_MINIMUMS,
    FOUR_SCALES,
    HALF_QUADS,
    IS_DENSE,
    IS_EIGHT,
    IS_FOUR,
    QUADS,
    VECTOR,
)
from realm_reference.compute.jit.simd import byte_at, float_at

F32: Final = np.float32


@compiled
def unpack_output(matrix: Any, output: int, out: Any) -> None:
    """The weights of one output, the bits that the whole matrix has in float32."""
    # [outputs, inputs] -> [inputs]
    tile, lane = output // LANES, output % LANES
    if matrix.kind == IS_FOUR:
        _four_bit(matrix.address + tile * matrix.blocks * FOUR_BYTES + 4 * lane, matrix.blocks, out)
    elif matrix.kind == IS_DENSE:
        at = matrix.address + tile * matrix.blocks * DENSE_BYTES + 4 * lane
        for i in range(matrix.inputs):
            out[i] = float_at(at + i * VECTOR)
    else:
        quads = QUADS if matrix.kind == IS_EIGHT else HALF_QUADS
        at = matrix.address + tile * matrix.blocks * (quads + 1) * VECTOR + 4 * lane
        _eight_bit(at, matrix.blocks, quads, out)


@compiled
def _four_bit(at: int, blocks: int, out: Any) -> None:
    for block in range(blocks):
        scale, minimum = float_at(at + FOUR_SCALES), float_at(at + FOUR_MINIMUMS)
        for i in range(16):
            code = byte_at(at + i // 4 * VECTOR + i % 4)
            out[32 * block + i] = scale * F32(code & 15) + minimum
            out[32 * block + 16 + i] = scale * F32(code >> 4) + minimum
        at += FOUR_BYTES


@compiled
def _eight_bit(at: int, blocks: int, quads: int, out: Any) -> None:
    for block in range(blocks):
        scale = float_at(at + quads * VECTOR)
        for i in range(4 * quads):
            code = byte_at(at + i // 4 * VECTOR + i % 4) - 128
            out[4 * quads * block + i] = scale * F32(code)
        at += (quads + 1) * VECTOR
