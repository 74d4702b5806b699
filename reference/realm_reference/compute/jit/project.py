"""A step's matrix products: an item's share of the outputs, in the model's precision, and adapters."""

from __future__ import annotations

from typing import Any

from realm_reference.compute.jit import arithmetic
from realm_reference.compute.jit.compiled import compiled, inlined
from realm_reference.compute.jit.kernels_int8 import round_blocks
from realm_reference.compute.jit.layout import BLOCK, LANES
from realm_reference.compute.jit.matrix import IS_DENSE
from realm_reference.compute.jit.multiply import multiply
from realm_reference.compute.jit.state import Task
from realm_reference.compute.jit.team import items_of


@inlined
def tiles_of(t: Task, matrix: Any, item: int) -> tuple[int, int]:
    """An item's tiles of a matrix: from, to."""
    items = items_of(t.ranks)
    return matrix.tiles * item // items, matrix.tiles * (item + 1) // items


@compiled
def project(t: Task, layer: int, first: int, last: int, item: int, x: Any, y: Any) -> None:
    """An item's outputs of the layer's matrices `first` to `last`, side by side in `y`; of prepared rows."""
    # [rows, inputs] -> [rows, outputs of all]
    n = t.order.n_rows[0]
    for part in range(first, last + 1):
        matrix = t.net.matrices[layer, part]
        multiply_tiles(t, matrix, item, x, n, y.ctypes.data, y.strides[0])
        for row in range(n):
            slot = t.order.adapters[row]
            if slot and t.adapters[slot, layer, part, 0].kind:
                _adapt(t, t.adapters[slot, layer, part], matrix, item, x[row : row + 1], y[row])


@compiled
def prepare(t: Task, x: Any, n: int) -> None:
    """What the kernels want of `n` rows beside or instead of their numbers: each thread for itself."""
    blocks, notes = x.shape[1] // BLOCK, t.work.own_notes[t.rank]
    for row in range(n):
        if t.net.int8:
            codes = t.work.own_codes[t.rank, row].ctypes.data
            round_blocks(x[row].ctypes.data, blocks, codes, notes[row].ctypes.data)
        else:
            arithmetic.sum_blocks(x[row].ctypes.data, blocks, notes[row].ctypes.data)


@compiled
def multiply_tiles(t: Task, matrix: Any, item: int, x: Any, n: int, y: int, y_stride: int) -> None:
    """An item's outputs of one matrix for `n` prepared rows, into rows at `y`, so many bytes apart."""
    first, last = tiles_of(t, matrix, item)
    notes = t.work.own_notes[t.rank]
    if t.net.int8 and matrix.kind != IS_DENSE:
        codes = t.work.own_codes[t.rank]
        multiply(t.net.kernel, True, matrix, first, last, codes, notes, n, y, y_stride)
    else:
        multiply(t.net.kernel, False, matrix, first, last, x, notes, n, y, y_stride)


@compiled
def _adapt(t: Task, factors: Any, matrix: Any, item: int, x: Any, y: Any) -> None:
    """Add an adapter's (x @ a.T) @ b.T (https://arxiv.org/abs/2106.09685) to a row's own outputs."""
    # MATRIX [2], the adapted MATRIX, [1, inputs], [outputs] -> [outputs]
    a, b = factors[0], factors[1]
    low, delta, notes = t.work.own_factor[t.rank], t.work.own_delta[t.rank], t.work.own_notes[t.rank]
    for i in range(low.shape[1]):
        low[0, i] = 0
    multiply(t.net.kernel, False, a, 0, a.tiles, x, notes, 1, low.ctypes.data, 0)
    first, last = tiles_of(t, matrix, item)
    multiply(t.net.kernel, False, b, first, last, low, notes, 1, delta.ctypes.data, 0)
    start = first * LANES
    out = y.ctypes.data + (matrix.column + start) * 4
    arithmetic.accumulate(delta.ctypes.data + start * 4, (last - first) * LANES, out)
