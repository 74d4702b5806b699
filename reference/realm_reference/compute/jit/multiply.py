"""Products of packed matrices with rows of activations:

y[row, output] = sum over the inputs of weight[output, input] * x[row, input]
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from llvmlite import ir
from numba import types

from realm_reference.compute.jit.compiled import compiled, inlined, intrinsic, kernel
from realm_reference.compute.jit.cpu import WIDE
from realm_reference.compute.jit.kernels_exact import Kernel, exact_kernel
from realm_reference.compute.jit.kernels_int8 import int8_kernel
from realm_reference.compute.jit.layout import LANES

_MANY, _FEW = (8, 4) if WIDE else (2, 1)  # rows side by side: as many sums as there are registers for
_ARGUMENTS: Final = 14
_INT64 = ir.IntType(64)


@inlined
def multiply(
    kernel: int,
    int8: bool,
    matrix: Any,
    first: int,
    last: int,
    x: Any,
    notes: Any,
    n: int,
    y: int,
    y_stride: int,
) -> None:
    """Tiles `first` to `last` - 1 of a matrix with the first `n` rows of x [rows, inputs] and of notes
    [rows, ..] on them, into rows at `y`, `y_stride` bytes apart; by the `kernel` at an address.

    With `int8`, x and notes are those of `kernels_int8.round_blocks`, and the matrix is not dense; else x is
    float32, and the notes are the sums of its blocks.
    """
    tiles = (int8, matrix.kind, matrix.address, matrix.blocks, matrix.column, first, last)
    rows = (x.ctypes.data, x.strides[0], notes.ctypes.data, notes.strides[0], n, y, y_stride)
    _call(kernel, tiles + rows)


@cache
def kernel_address() -> int:
    """Where the compiled kernel begins; it is compiled now, or loaded."""
    compiled_kernel: Any = kernel(_ARGUMENTS)(_tiles_by_rows)
    return int(compiled_kernel.address)


def _tile(n: int) -> Kernel:
    """A tile with `n` rows."""
    exact, rounded = exact_kernel(n), int8_kernel(n)

    @compiled
    def tile_kernel(
        int8: int,
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
        if int8:
            rounded(kind, address, blocks, tile, x, x_stride, notes, notes_stride, y, y_stride)
        else:
            exact(kind, address, blocks, tile, x, x_stride, notes, notes_stride, y, y_stride)

    return tile_kernel


_many, _few, _one = _tile(_MANY), _tile(_FEW), _tile(1)


def _tiles_by_rows(
    int8: int,
    kind: int,
    address: int,
    blocks: int,
    column: int,
    first: int,
    last: int,
    x: int,
    x_stride: int,
    notes: int,
    notes_stride: int,
    n: int,
    y: int,
    y_stride: int,
) -> None:
    for tile in range(first, last):
        row = 0
        while row < n:
            here, note = x + row * x_stride, notes + row * notes_stride
            out = y + row * y_stride + (column + tile * LANES) * 4
            if row + _MANY <= n:
                _many(int8, kind, address, blocks, tile, here, x_stride, note, notes_stride, out, y_stride)
                row += _MANY
            elif row + _FEW <= n:
                _few(int8, kind, address, blocks, tile, here, x_stride, note, notes_stride, out, y_stride)
                row += _FEW
            else:
                _one(int8, kind, address, blocks, tile, here, x_stride, note, notes_stride, out, y_stride)
                row += 1


@intrinsic
def _call(typing: Any, address: Any, arguments: Any) -> Any:
    """Call the kernel at an address."""
    given = types.UniTuple(types.intp, _ARGUMENTS)  # type: ignore[no-untyped-call]

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        shape = ir.FunctionType(ir.VoidType(), [_INT64] * _ARGUMENTS)
        function = builder.inttoptr(values[0], shape.as_pointer())
        builder.call(function, [builder.extract_value(values[1], i) for i in range(_ARGUMENTS)])
        return context.get_dummy_value()

    return types.void(types.intp, given), code
