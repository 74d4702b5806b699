"""A row's heads: their queries and keys turned to its position, keys and values into its page, and what the
queries see.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from realm_reference.compute.jit import arithmetic
from realm_reference.compute.jit.attention import attend, rotate
from realm_reference.compute.jit.compiled import compiled
from realm_reference.compute.jit.layout import LANES
from realm_reference.compute.jit.state import K, Q, Task, V

F32: Final = np.float32


@compiled
def _turn(t: Task, layer: int, part: int, row: int, head: int) -> None:
    """A head of Q or K, normed where the model does so and turned to its position, as the thread's own."""
    # qkv [rows, ..] -> own_head[0] [d]
    net, out, d = t.net, t.work.own_head[t.rank, 0], t.net.head_dim
    start = net.matrices[layer, part].column + head * d
    own = t.work.qkv[row, start : start + d]
    for i in range(d):
        out[i] = own[i]
    if net.head_norms.shape[0]:
        x, weight = out.ctypes.data, net.head_norms[layer, part].ctypes.data
        arithmetic.norm(x, weight, d, net.epsilon, x)
    position, rope = t.order.positions[row], net.ropes[layer]
    rotate(out, net.cos[rope, position], net.sin[rope, position])


@compiled
def keep(t: Task, layer: int, row: int) -> None:
    """Put a row's keys and values into its page."""
    position, d = t.order.positions[row], t.net.head_dim
    page, slot = t.order.page_table[t.order.page_lists[row] + position // LANES], position % LANES
    key, start = t.work.own_head[t.rank, 0], t.net.matrices[layer, V].column
    for group in range(t.net.n_kv_heads):
        _turn(t, layer, K, row, group)
        value = t.work.qkv[row, start + group * d : start + group * d + d]
        kept_key = t.pages.keys[layer, group, page, :, slot]
        kept_value = t.pages.values[layer, group, page, slot]
        for i in range(d):
            kept_key[i] = key[i]
            kept_value[i] = value[i]


@compiled
def look(t: Task, layer: int, row: int, head: int) -> None:
    """What one head of a row sees."""
    # qkv, pages -> mixed [rows, n_heads * d]
    net, d = t.net, t.net.head_dim
    _turn(t, layer, Q, row, head)
    query, seen = t.work.own_head[t.rank, 0], t.work.own_head[t.rank, 1]
    for i in range(d):
        query[i] *= F32(net.attention_scale)
    last, window = t.order.positions[row], net.windows[layer]
    first = max(0, last + 1 - window) if window else 0
    group = head // (net.n_heads // net.n_kv_heads)
    keys, values = t.pages.keys[layer, group], t.pages.values[layer, group]
    table = t.order.page_table[t.order.page_lists[row] :]
    attend(query, keys, values, table, first, last, t.work.own_scores[t.rank], seen)
    mixed = t.work.mixed[row, head * d : head * d + d]
    for i in range(d):
        mixed[i] = seen[i]
