"""Products of packed matrices with rows of activations:

y[row, output] = sum over the inputs of weight[output, input] * x[row, input]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from realm_reference.compute.jit.compiled import compiled
from realm_reference.compute.jit.cpu import WIDE
from realm_reference.compute.jit.kernels_exact import Kernel, exact_kernel
from realm_reference.compute.jit.kernels_int8 import int8_kernel
from realm_reference.compute.jit.layout import LANES

_MANY, _FEW = (8, 4) if WIDE else (2, 1)  # rows side by side: as many sums as there are registers for


def _multiplier(kernel: Callable[[int], Kernel]) -> Callable[..., None]:
    many, few, one = kernel(_MANY), kernel(_FEW), kernel(1)

    @compiled
    def multiply(
        matrix: Any, first: int, last: int, x: Any, notes: Any, n: int, y: int, y_stride: int
    ) -> None:
        """Tiles `first` to `last` - 1 of a matrix with the first `n` rows of x [rows, inputs, padded] and of
        notes [rows, ..] on them, into rows at `y`, `y_stride` bytes apart.
        """
        x_stride, notes_stride = x.strides[0], notes.strides[0]
        for tile in range(first, last):
            row = 0
            while row < n:
                here, note = x.ctypes.data + row * x_stride, notes.ctypes.data + row * notes_stride
                out = y + row * y_stride + (matrix.column + tile * LANES) * 4
                if row + _MANY <= n:
                    many(matrix, tile, here, x_stride, note, notes_stride, out, y_stride)
                    row += _MANY
                elif row + _FEW <= n:
                    few(matrix, tile, here, x_stride, note, notes_stride, out, y_stride)
                    row += _FEW
                else:
                    one(matrix, tile, here, x_stride, note, notes_stride, out, y_stride)
                    row += 1

    return multiply


multiply_exact = _multiplier(exact_kernel)
"""x is float32, the notes are the sums of its blocks: see `arithmetic.sum_blocks`."""

multiply_int8 = _multiplier(int8_kernel)
"""x is int8, with the notes of `kernels_int8.round_blocks`; the matrix is not dense."""
