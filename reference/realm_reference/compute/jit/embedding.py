"""One output of a packed matrix in float32: a token's embedding."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from realm_reference.compute.jit.compiled import compiled
from realm_reference.compute.jit.layout import DENSE, EIGHT_BIT, EIGHT_BIT_HALF, FOUR_BIT, LANES
from realm_reference.compute.jit.matmul import KINDS
from realm_reference.compute.jit.simd import byte_at, float_at

F32: Final = np.float32
_FOUR, _EIGHT, _DENSE = KINDS.index(FOUR_BIT), KINDS.index(EIGHT_BIT), KINDS.index(DENSE)
_QUAD: Final = 4 * LANES  # bytes
_FOUR_BYTES, _DENSE_BYTES = FOUR_BIT.itemsize, DENSE.itemsize
assert EIGHT_BIT.itemsize == 9 * _QUAD
assert EIGHT_BIT_HALF.itemsize == 5 * _QUAD


@compiled
def unpack_output(matrix: Any, output: int, out: Any) -> None:
    """The weights of one output, the bits that the whole matrix has in float32."""
    # [outputs, inputs] -> [inputs]
    tile, lane = output // LANES, output % LANES
    if matrix.kind == _FOUR:
        _four_bit(matrix.address + tile * matrix.blocks * _FOUR_BYTES + 4 * lane, matrix.blocks, out)
    elif matrix.kind == _DENSE:
        at = matrix.address + tile * matrix.blocks * _DENSE_BYTES + 4 * lane
        for i in range(matrix.inputs):
            out[i] = float_at(at + i * _QUAD)
    else:
        quads = 8 if matrix.kind == _EIGHT else 4
        at = matrix.address + tile * matrix.blocks * (quads + 1) * _QUAD + 4 * lane
        _eight_bit(at, matrix.blocks, quads, out)


@compiled
def _four_bit(at: int, blocks: int, out: Any) -> None:
    for block in range(blocks):
        scale, minimum = float_at(at + 4 * _QUAD), float_at(at + 5 * _QUAD)
        for i in range(16):
            code = byte_at(at + i // 4 * _QUAD + i % 4)
            out[32 * block + i] = scale * F32(code & 15) + minimum
            out[32 * block + 16 + i] = scale * F32(code >> 4) + minimum
        at += _FOUR_BYTES


@compiled
def _eight_bit(at: int, blocks: int, quads: int, out: Any) -> None:
    for block in range(blocks):
        scale = float_at(at + quads * _QUAD)
        for i in range(4 * quads):
            code = byte_at(at + i // 4 * _QUAD + i % 4) - 128
            out[4 * quads * block + i] = scale * F32(code)
        at += (quads + 1) * _QUAD
