"""The kernels of the `int8` precision: codes times activations rounded to eight bits, block by block.

Sums of products within a block are integers, and exact; between blocks the order is that of the matrix, as in
`kernels_exact`. Rows come as codes [inputs] and as notes: for each sixteen inputs the scale of their block,
scale * the sum of their block's codes, and -128 times the sum of the codes of the sixteen and of the block,
which takes back that eight-bit weights are stored 128 too high.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from realm_reference.compute.jit import rows as r
from realm_reference.compute.jit import simd as v
from realm_reference.compute.jit.compiled import compiled
from realm_reference.compute.jit.kernels_exact import Kernel
from realm_reference.compute.jit.layout import BLOCK
from realm_reference.compute.jit.matrix import (
    FOUR_BYTES,
    FOUR_MINIMUMS,
    FOUR_SCALES,
    HALF_QUADS,
    IS_EIGHT,
    IS_FOUR,
    QUADS,
    VECTOR,
)

F32: Final = np.float32
_NOTE: Final = 16  # bytes, for sixteen inputs
_SUM, _HALF_SHIFT, _SHIFT = 4, 8, 12  # bytes into a note
_LARGEST, _OFFSET, _TINY = F32(127), F32(-128), F32(1e-30)


@compiled
def round_blocks(x: int, n_blocks: int, codes: int, notes: int) -> None:
    """A row of float32 activations as codes and notes; a block's largest magnitude becomes 127."""
    for _ in range(n_blocks):
        low, high = v.load(x), v.load(x + VECTOR)
        top = v.largest(v.maximum(v.absolute(low), v.absolute(high)))
        factor = v.splat(_LARGEST / top if top > _TINY else F32(0))
        low, high = v.nearest(v.multiply(low, factor)), v.nearest(v.multiply(high, factor))
        v.store_bytes(codes, v.to_codes(low))
        v.store_bytes(codes + BLOCK // 2, v.to_codes(high))
        scale, low_sum, high_sum = top / _LARGEST, v.total(low), v.total(high)
        both = low_sum + high_sum
        for note, half_sum in ((notes, low_sum), (notes + _NOTE, high_sum)):
            v.store_lane(note, scale)
            v.store_lane(note + _SUM, scale * both)
            v.store_lane(note + _HALF_SHIFT, _OFFSET * half_sum)
            v.store_lane(note + _SHIFT, _OFFSET * both)
        x, codes, notes = x + 2 * VECTOR, codes + BLOCK, notes + 2 * _NOTE


def int8_kernel(n: int) -> Kernel:
    """Products of `n` rows of codes at address `x` with one tile of a matrix of codes."""
    four_bit, eight_bit = _four_bit(n), _eight_bit(n)

    @compiled
    def kernel(
        kind: int,
        address: int,
        blocks: int,
        tile: int,
        x: int,
        x_stride: int,
        notes: int,
        notes_stride: int,
        y: int,
        y_stride: int,
    ) -> None:
        if kind == IS_FOUR:
            at = address + tile * blocks * FOUR_BYTES
            four_bit(at, blocks, x, x_stride, notes, notes_stride, y, y_stride)
        else:
            quads = QUADS if kind == IS_EIGHT else HALF_QUADS
            at = address + tile * blocks * (quads + 1) * VECTOR
            eight_bit(at, blocks, quads, x, x_stride, notes, notes_stride, y, y_stride)

    return kernel


def _four_bit(n: int) -> Kernel:
    @compiled
    def kernel(
        tile: int, blocks: int, x: int, x_stride: int, notes: int, notes_stride: int, y: int, y_stride: int
    ) -> None:
        totals = r.zero_rows(n)
        for _ in range(blocks):
            dots = r.zero_code_rows(n)
            for quad in range(4):
                codes, at = v.load_codes(tile + quad * VECTOR), x + 4 * quad
                dots = r.add_dots(v.low_nibbles(codes), at, x_stride, dots)
                dots = r.add_dots(v.high_nibbles(codes), at + BLOCK // 2, x_stride, dots)
            totals = r.add_products(v.load(tile + FOUR_MINIMUMS), notes + _SUM, notes_stride, totals)
            scales = v.load(tile + FOUR_SCALES)
            totals = r.add_scaled_products(scales, notes, notes_stride, r.to_float_rows(dots), totals)
            tile += FOUR_BYTES
            x += BLOCK
            notes += 2 * _NOTE
        r.store_rows(y, y_stride, totals)

    return kernel


def _eight_bit(n: int) -> Kernel:
    @compiled
    def kernel(
        tile: int,
        blocks: int,
        quads: int,
        x: int,
        x_stride: int,
        notes: int,
        notes_stride: int,
        y: int,
        y_stride: int,
    ) -> None:
        shift = _SHIFT if quads == QUADS else _HALF_SHIFT
        totals = r.zero_rows(n)
        for _ in range(blocks):
            dots = r.zero_code_rows(n)
            for _quad in range(quads):
                dots = r.add_dots(v.load_codes(tile), x, x_stride, dots)
                tile += VECTOR
                x += 4
            products = r.add_numbers(notes + shift, notes_stride, r.to_float_rows(dots))
            totals = r.add_scaled_products(v.load(tile), notes, notes_stride, products, totals)
            tile += VECTOR
            notes += quads // HALF_QUADS * _NOTE
        r.store_rows(y, y_stride, totals)

    return kernel
