"""Products of packed matrices with rows of float32 activations: the kernels of the `exact` precision.

    y[row, output] = sum over the inputs of weight[output, input] * x[row, input]

The order of a sum is fixed by the matrix alone: within a block the codes of even and of odd number in two
sums, then scale * (even + odd) (+ minimum * sum of the block's x) onto the blocks before. How many rows
are computed side by side, or where the tiles are cut between threads, does not enter into it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from realm_reference.compute.jit import simd as v
from realm_reference.compute.jit.compiled import compiled
from realm_reference.compute.jit.cpu import WIDE
from realm_reference.compute.jit.layout import (
    BLOCK,
    DENSE,
    EIGHT_BIT,
    EIGHT_BIT_HALF,
    FOUR_BIT,
    LANES,
    PackedMatrix,
)

KINDS: Final = (None, FOUR_BIT, EIGHT_BIT, EIGHT_BIT_HALF, DENSE)
_FOUR, _EIGHT, _HALF, _DENSE = range(1, 5)

MATRIX: Final = np.dtype(
    [("kind", "i8"), ("address", "i8"), ("tiles", "i8"), ("blocks", "i8"), ("inputs", "i8"), ("column", "i8")]
)
"""A packed matrix as the kernels know it; `kind` 0 stands for none. `column` is where its outputs begin in a
row of results: those of several matrices lie side by side.
"""


def _offset(block: np.dtype[Any], field: str) -> int:
    fields = block.fields
    assert fields is not None
    return fields[field][1]


_MANY, _FEW = (8, 4) if WIDE else (2, 1)  # rows side by side: as many sums as there are registers for
_VECTOR: Final = 4 * LANES  # bytes
_X_BLOCK: Final = 4 * BLOCK
_FOUR_BYTES, _FOUR_SCALES = FOUR_BIT.itemsize, _offset(FOUR_BIT, "scales")
_FOUR_MINIMUMS: Final = _offset(FOUR_BIT, "minimums")
_DENSE_BYTES: Final = DENSE.itemsize


def describe(matrix: PackedMatrix, column: int = 0) -> tuple[int, ...]:
    """The fields of `MATRIX`; the packed matrix has to be kept alive."""
    tiles, blocks = matrix.blocks.shape
    kind = KINDS.index(matrix.blocks.dtype)
    return kind, matrix.blocks.ctypes.data, tiles, blocks, matrix.inputs, column


def _four_bit(n: int) -> Callable[..., None]:
    @compiled
    def kernel(
        tile: int, blocks: int, x: int, x_stride: int, sums: int, sums_stride: int, y: int, y_stride: int
    ) -> None:
        totals = v.zero_rows(n)
        for _ in range(blocks):
            even, odd = v.zero_rows(n), v.zero_rows(n)
            for quad in range(4):
                codes = v.load_codes(tile + quad * _VECTOR)
                for i in range(4):
                    low, high = v.nibble(codes, 2 * i), v.nibble(codes, 2 * i + 1)
                    at = x + 16 * quad + 4 * i
                    even = v.add_products(low, at, x_stride, even)
                    odd = v.add_products(high, at + _X_BLOCK // 2, x_stride, odd)
            totals = v.add_products(v.load(tile + _FOUR_MINIMUMS), sums, sums_stride, totals)
            totals = v.add_scaled_rows(v.load(tile + _FOUR_SCALES), v.add_rows(even, odd), totals)
            tile += _FOUR_BYTES
            x += _X_BLOCK
            sums += 4
        v.store_rows(y, y_stride, totals)

    return kernel


def _eight_bit(n: int) -> Callable[..., None]:
    @compiled
    def kernel(tile: int, blocks: int, quads: int, x: int, x_stride: int, y: int, y_stride: int) -> None:
        totals = v.zero_rows(n)
        for _ in range(blocks):
            even, odd = v.zero_rows(n), v.zero_rows(n)
            for _quad in range(quads):
                codes = v.load_codes(tile)
                even = v.add_products(v.signed_byte(codes, 0), x, x_stride, even)
                odd = v.add_products(v.signed_byte(codes, 1), x + 4, x_stride, odd)
                even = v.add_products(v.signed_byte(codes, 2), x + 8, x_stride, even)
                odd = v.add_products(v.signed_byte(codes, 3), x + 12, x_stride, odd)
                tile += _VECTOR
                x += 16
            totals = v.add_scaled_rows(v.load(tile), v.add_rows(even, odd), totals)
            tile += _VECTOR
        v.store_rows(y, y_stride, totals)

    return kernel


def _dense(n: int) -> Callable[..., None]:
    @compiled
    def kernel(tile: int, blocks: int, x: int, x_stride: int, y: int, y_stride: int) -> None:
        totals = v.zero_rows(n)
        for _ in range(blocks):
            even, odd = v.zero_rows(n), v.zero_rows(n)
            for _pair in range(BLOCK // 2):
                even = v.add_products(v.load(tile), x, x_stride, even)
                odd = v.add_products(v.load(tile + _VECTOR), x + 4, x_stride, odd)
                tile += 2 * _VECTOR
                x += 8
            totals = v.add_rows(v.add_rows(even, odd), totals)
        v.store_rows(y, y_stride, totals)

    return kernel


def _tile(n: int) -> Callable[..., None]:
    """A tile with `n` rows, whatever its kind."""
    four_bit, eight_bit, dense = _four_bit(n), _eight_bit(n), _dense(n)

    @compiled
    def kernel(
        matrix: Any, tile: int, x: int, x_stride: int, sums: int, sums_stride: int, y: int, y_stride: int
    ) -> None:
        blocks = matrix.blocks
        if matrix.kind == _FOUR:
            at = matrix.address + tile * blocks * _FOUR_BYTES
            four_bit(at, blocks, x, x_stride, sums, sums_stride, y, y_stride)
        elif matrix.kind == _DENSE:
            dense(matrix.address + tile * blocks * _DENSE_BYTES, blocks, x, x_stride, y, y_stride)
        else:
            quads = 8 if matrix.kind == _EIGHT else 4
            at = matrix.address + tile * blocks * (quads + 1) * _VECTOR
            eight_bit(at, blocks, quads, x, x_stride, y, y_stride)

    return kernel


_many_rows, _few_rows, _one_row = _tile(_MANY), _tile(_FEW), _tile(1)


@compiled
def multiply(
    matrix: Any, first: int, last: int, x: Any, sums: Any, n_rows: int, y: int, y_stride: int
) -> None:
    """Tiles `first` to `last` - 1 of a matrix, for `n_rows` rows, into the rows at address `y`.

    x [rows, inputs, padded], sums [rows, blocks of inputs]; strides are in bytes.
    """
    for tile in range(first, last):
        row = 0
        while row < n_rows:
            x_row, sums_row = x.ctypes.data + row * x.strides[0], sums.ctypes.data + row * sums.strides[0]
            y_row = y + row * y_stride + (matrix.column + tile * LANES) * 4
            if row + _MANY <= n_rows:
                _many_rows(matrix, tile, x_row, x.strides[0], sums_row, sums.strides[0], y_row, y_stride)
                row += _MANY
            elif row + _FEW <= n_rows:
                _few_rows(matrix, tile, x_row, x.strides[0], sums_row, sums.strides[0], y_row, y_stride)
                row += _FEW
            else:
                _one_row(matrix, tile, x_row, x.strides[0], sums_row, sums.strides[0], y_row, y_stride)
                row += 1
