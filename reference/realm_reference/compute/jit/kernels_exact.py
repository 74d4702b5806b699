"""The kernels of the `exact` precision: codes times float32 activations.

The order of a sum is fixed by the matrix alone: within a block the codes of even and of odd number in two
sums, then scale * (even + odd) (+ minimum * sum of the block's x) onto the blocks before. How many rows
are computed side by side, or where the tiles are cut between threads, does not enter into it.
"""

from __future__ import annotations

from typing import Any, Final

from realm_reference.compute.jit import rows as r
from realm_reference.compute.jit import simd as v
from realm_reference.compute.jit.compiled import compiled
from realm_reference.compute.jit.layout import BLOCK
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

Kernel = Any  # compiled: a tile of a matrix times n rows

_X_BLOCK: Final = 4 * BLOCK  # bytes


def exact_kernel(n: int) -> Kernel:
    """Products of `n` rows at address `x` with one tile; `notes` are the sums of each row's blocks."""
    four_bit, eight_bit, dense = _four_bit(n), _eight_bit(n), _dense(n)

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
        elif kind == IS_DENSE:
            dense(address + tile * blocks * DENSE_BYTES, blocks, x, x_stride, y, y_stride)
        else:
            quads = QUADS if kind == IS_EIGHT else HALF_QUADS
            at = address + tile * blocks * (quads + 1) * VECTOR
            eight_bit(at, blocks, quads, x, x_stride, y, y_stride)

    return kernel


def _four_bit(n: int) -> Kernel:
    @compiled
    def kernel(
        tile: int, blocks: int, x: int, x_stride: int, sums: int, sums_stride: int, y: int, y_stride: int
    ) -> None:
        totals = r.zero_rows(n)
        for _ in range(blocks):
            even, odd = r.zero_rows(n), r.zero_rows(n)
            for quad in range(4):
                codes = v.load_codes(tile + quad * VECTOR)
                for i in range(4):
                    low, high = v.nibble(codes, 2 * i), v.nibble(codes, 2 * i + 1)
                    at = x + 16 * quad + 4 * i
                    even = r.add_products(low, at, x_stride, even)
                    odd = r.add_products(high, at + _X_BLOCK // 2, x_stride, odd)
            totals = r.add_products(v.load(tile + FOUR_MINIMUMS), sums, sums_stride, totals)
            totals = r.add_scaled_rows(v.load(tile + FOUR_SCALES), r.add_rows(even, odd), totals)
            tile += FOUR_BYTES
            x += _X_BLOCK
            sums += 4
        r.store_rows(y, y_stride, totals)

    return kernel


def _eight_bit(n: int) -> Kernel:
    @compiled
    def kernel(tile: int, blocks: int, quads: int, x: int, x_stride: int, y: int, y_stride: int) -> None:
        totals = r.zero_rows(n)
        for _ in range(blocks):
            even, odd = r.zero_rows(n), r.zero_rows(n)
            for _quad in range(quads):
                codes = v.load_codes(tile)
                even = r.add_products(v.signed_byte(codes, 0), x, x_stride, even)
                odd = r.add_products(v.signed_byte(codes, 1), x + 4, x_stride, odd)
                even = r.add_products(v.signed_byte(codes, 2), x + 8, x_stride, even)
                odd = r.add_products(v.signed_byte(codes, 3), x + 12, x_stride, odd)
                tile += VECTOR
                x += 16
            totals = r.add_scaled_rows(v.load(tile), r.add_rows(even, odd), totals)
            tile += VECTOR
        r.store_rows(y, y_stride, totals)

    return kernel


def _dense(n: int) -> Kernel:
    @compiled
    def kernel(tile: int, blocks: int, x: int, x_stride: int, y: int, y_stride: int) -> None:
        totals = r.zero_rows(n)
        for _ in range(blocks):
            even, odd = r.zero_rows(n), r.zero_rows(n)
            for _pair in range(BLOCK // 2):
                even = r.add_products(v.load(tile), x, x_stride, even)
                odd = r.add_products(v.load(tile + VECTOR), x + 4, x_stride, odd)
                tile += 2 * VECTOR
                x += 8
            totals = r.add_rows(r.add_rows(even, odd), totals)
        r.store_rows(y, y_stride, totals)

    return kernel
