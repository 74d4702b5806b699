"""Attention over keys and values in pages.

A page holds `LANES` positions of one key/value head: keys as [head_dim, LANES], so that a query meets all
positions of a page at once, one in each lane; values as [LANES, head_dim]. The order of every sum follows
from the position alone: where its chunk began or which pages it got does not enter into it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from realm_reference.compute.jit import rows as r
from realm_reference.compute.jit import simd as v
from realm_reference.compute.jit.arithmetic import exponential
from realm_reference.compute.jit.compiled import compiled
from realm_reference.compute.jit.layout import LANES
from realm_reference.compute.jit.matrix import VECTOR

F32: Final = np.float32
_ONE: Final = F32(1)
_COLUMNS: Final = 4  # vectors of a head's output that are summed side by side


@compiled
def rotate(head: Any, cos: Any, sin: Any) -> None:
    """Rotary position embedding, in place: the pair (i, i + d/2) turns by the i-th angle
    (https://arxiv.org/abs/2104.09864).
    """
    # [d], [d/2] twice
    half = cos.shape[0]
    for i in range(half):
        first, second = head[i], head[i + half]
        head[i] = first * cos[i] - second * sin[i]
        head[i + half] = second * cos[i] + first * sin[i]


@compiled
def _score_pages(
    query: int, keys: int, stride: int, pages: Any, first: int, last: int, width: int, scores: int
) -> float:
    """Products of a query with the keys at positions `first` to `last`, each page's at its place in `scores`;
    minus infinity for the page's other positions. Returns the largest.
    """
    top = v.splat(F32(-np.inf))
    for index in range(first // LANES, last // LANES + 1):
        key = keys + pages[index] * stride
        a, b, c, d = v.zero(), v.zero(), v.zero(), v.zero()
        for i in range(0, width, 4):
            at, number = key + i * VECTOR, query + i * 4
            a = v.multiply_add(v.broadcast(number), v.load(at), a)
            b = v.multiply_add(v.broadcast(number + 4), v.load(at + VECTOR), b)
            c = v.multiply_add(v.broadcast(number + 8), v.load(at + 2 * VECTOR), c)
            d = v.multiply_add(v.broadcast(number + 12), v.load(at + 3 * VECTOR), d)
        page = v.within(v.add(v.add(a, b), v.add(c, d)), first - index * LANES, last - index * LANES)
        v.store(scores + index * VECTOR, page)
        top = v.maximum(top, page)
    return float(v.largest(top))


@compiled
def _exponentials(scores: int, first: int, last: int, top: float) -> float:
    """Scores into e**(score - top), in place; returns their sum."""
    parts = v.zero()
    for at in range(scores + first // LANES * VECTOR, scores + (last // LANES + 1) * VECTOR, VECTOR):
        part = exponential(v.subtract(v.load(at), v.splat(top)))
        v.store(at, part)
        parts = v.add(parts, part)
    return float(v.total(parts))


@compiled
def _mix_values(
    weights: int,
    values: int,
    stride: int,
    pages: Any,
    first: int,
    last: int,
    row: int,
    share: float,
    out: int,
) -> None:
    """The values at positions `first` to `last`, weighted and times `share`; `row` bytes hold a position."""
    column = 0
    while column + _COLUMNS * VECTOR <= row:
        sums = r.zero_rows(_COLUMNS)
        for index in range(first // LANES, last // LANES + 1):
            page, begin = values + pages[index] * stride + column, index * LANES
            for slot in range(max(first - begin, 0), min(last - begin, LANES - 1) + 1):
                weight = v.broadcast(weights + (begin + slot) * 4)
                sums = r.add_vectors(weight, page + slot * row, VECTOR, sums)
        r.store_rows(out + column, VECTOR, r.scale_rows(v.splat(share), sums))
        column += _COLUMNS * VECTOR
    while column < row:
        one = r.zero_rows(1)
        for position in range(first, last + 1):
            at = values + pages[position // LANES] * stride + position % LANES * row + column
            one = r.add_vectors(v.broadcast(weights + position * 4), at, VECTOR, one)
        r.store_rows(out + column, VECTOR, r.scale_rows(v.splat(share), one))
        column += VECTOR


@compiled
def attend(
    query: Any, keys: Any, values: Any, pages: Any, first: int, last: int, scores: Any, out: Any
) -> None:
    """What one scaled query sees at positions `first` to `last` of its sequence, which lies in `pages`.

    keys [pages, width, LANES] and values [pages, LANES, width] of the query's key/value head, where the width
    is its dimension padded to whole vectors; query [width] and out [width] are padded likewise; scores is
    scratch for as many positions as a sequence may have.
    """
    width = query.shape[0]
    at, scratch, stride = query.ctypes.data, scores.ctypes.data, keys.strides[0]
    top = _score_pages(at, keys.ctypes.data, stride, pages, first, last, width, scratch)
    share = float(_ONE / _exponentials(scratch, first, last, top))
    _mix_values(scratch, values.ctypes.data, stride, pages, first, last, 4 * width, share, out.ctypes.data)
