"""A step of the model: the rows of an order through the layers that it names, by a team of threads.

Every thread runs `_share` on its own `Task`. Work is cut by outputs (tiles of a matrix), by rows, or by rows
and heads; never by the numbers of a sum, so that it has the same bits with any number of threads. They `meet`
wherever a part reads what other threads have written.

The same model in the fewest lines: `model.transformer.Transformer`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from realm_reference.compute.jit import arithmetic
from realm_reference.compute.jit import simd as v
from realm_reference.compute.jit.attention import attend, rotate
from realm_reference.compute.jit.compiled import compiled, entry_point
from realm_reference.compute.jit.embedding import unpack_output
from realm_reference.compute.jit.layout import LANES
from realm_reference.compute.jit.matrix import VECTOR
from realm_reference.compute.jit.project import multiply_share, prepare, project, share
from realm_reference.compute.jit.state import (
    ATTENTION,
    DOWN,
    FFN,
    GATE,
    OUTPUT,
    POST_ATTENTION,
    POST_FFN,
    UP,
    K,
    Q,
    Task,
    V,
)
from realm_reference.compute.jit.team import meet, ring, sleep

F32: Final = np.float32


@entry_point
def run(t: Task) -> None:
    """Rank 0: one step, together with all others. The others: steps, until the order says that it ends."""
    while True:
        if t.rank:
            sleep(t.work.bells, t.rank)
        else:
            for rank in range(1, t.ranks):
                ring(t.work.bells, rank)
        if t.order.ends[0]:
            return
        _share(t)
        if not t.rank:
            return


@compiled
def _share(t: Task) -> None:
    """One thread's share of a step."""
    if t.order.embeds[0]:
        _embed(t)
        _meet(t)
    for layer in range(t.order.layers[0], t.order.layers[1]):
        _attention(t, layer)
        _feed_forward(t, layer)
    if t.order.n_wanted[0]:
        _logits(t)
    _meet(t)


@compiled
def _meet(t: Task) -> None:
    meet(t.work.arrivals, t.ranks)


@compiled
def _embed(t: Task) -> None:
    """ids -> hidden [rows, d]."""
    for row in range(t.rank, t.order.n_rows[0], t.ranks):
        unpack_output(t.net.embedding[0], t.order.ids[row], t.work.hidden[row])
        for i in range(t.net.hidden):
            t.work.hidden[row, i] *= F32(t.net.embedding_scale)


@compiled
def _attention(t: Task, layer: int) -> None:
    """hidden -> hidden + attention [rows, d]."""
    net, work, n = t.net, t.work, t.order.n_rows[0]
    _norm(t, net.norms[layer, ATTENTION])
    project(t, layer, Q, V, work.own_normed[t.rank], work.qkv)
    _add_bias(t, layer)
    _meet(t)
    for row in range(t.rank, n, t.ranks):
        _keep(t, layer, row)
    _meet(t)
    for item in range(t.rank, n * net.n_heads, t.ranks):  # neighbours cost alike: every thread gets its share
        _look(t, layer, item // net.n_heads, item % net.n_heads)
    _meet(t)
    project(t, layer, OUTPUT, OUTPUT, work.mixed, work.added)
    _add(t, net.matrices[layer, OUTPUT], net.norms[layer, POST_ATTENTION])


@compiled
def _feed_forward(t: Task, layer: int) -> None:
    """hidden -> hidden + feed-forward [rows, d]."""
    net, work = t.net, t.work
    _norm(t, net.norms[layer, FFN])
    project(t, layer, GATE, UP, work.own_normed[t.rank], work.gate_up)
    _gate(t, layer)
    _meet(t)
    project(t, layer, DOWN, DOWN, work.gate_up[:, : work.gate_up.shape[1] // 2], work.added)
    _add(t, net.matrices[layer, DOWN], net.norms[layer, POST_FFN])


@compiled
def _logits(t: Task) -> None:
    """hidden -> logits of the wanted rows, where the order says [wanted, vocabulary]."""
    n, x = t.order.n_wanted[0], t.work.own_normed[t.rank]
    for i in range(n):
        row, out = t.work.hidden[t.order.wanted[i]].ctypes.data, x[i].ctypes.data
        arithmetic.norm(row, t.net.final_norm.ctypes.data, t.net.hidden, t.net.epsilon, out)
    prepare(t, x, n)
    multiply_share(t, t.net.unembedding[0], x, n, t.order.logits[0], t.order.logits[1])


@compiled
def _norm(t: Task, weight: Any) -> None:
    """All rows normed, in the thread's own memory: cheaper for each to do it than to wait for one."""
    # hidden [rows, d], [d] -> own_normed [rows, d]
    for row in range(t.order.n_rows[0]):
        x, out = t.work.hidden[row].ctypes.data, t.work.own_normed[t.rank, row].ctypes.data
        arithmetic.norm(x, weight.ctypes.data, t.net.hidden, t.net.epsilon, out)


@compiled
def _add(t: Task, matrix: Any, norm: Any) -> None:
    """hidden + added, which is normed first where the model does so; of all threads, when it returns."""
    n, hidden, added = t.order.n_rows[0], t.work.hidden, t.work.added
    if t.net.post_norms:
        _meet(t)
        for row in range(t.rank, n, t.ranks):
            x = added[row].ctypes.data
            arithmetic.norm(x, norm.ctypes.data, t.net.hidden, t.net.epsilon, x)
            arithmetic.accumulate(x, t.net.hidden, hidden[row].ctypes.data)
    else:  # its own outputs are all that a thread needs
        first, last = share(t, matrix)
        for row in range(n):
            x, out = added[row, first * LANES :].ctypes.data, hidden[row, first * LANES :].ctypes.data
            arithmetic.accumulate(x, (last - first) * LANES, out)
    _meet(t)


@compiled
def _gate(t: Task, layer: int) -> None:
    """activation(gate) * up, in the place of gate: the thread's own outputs."""
    # gate_up [rows, 2 * f]
    gate, up = t.net.matrices[layer, GATE], t.net.matrices[layer, UP]
    first, last = share(t, gate)
    for row in range(t.order.n_rows[0]):
        start = t.work.gate_up[row].ctypes.data
        for offset in range(first * VECTOR, last * VECTOR, VECTOR):
            at, factor = start + 4 * gate.column + offset, v.load(start + 4 * up.column + offset)
            x = v.load(at)
            v.store(at, v.multiply(arithmetic.gelu(x) if t.net.gelu else arithmetic.silu(x), factor))


@compiled
def _add_bias(t: Task, layer: int) -> None:
    """qkv + bias [rows, outputs], where the model has one: the thread's own outputs."""
    if t.net.qkv_bias.shape[0]:
        for part in range(Q, V + 1):
            matrix = t.net.matrices[layer, part]
            first, last = share(t, matrix)
            start = matrix.column + first * LANES
            for row in range(t.order.n_rows[0]):
                bias, out = t.net.qkv_bias[layer, start:].ctypes.data, t.work.qkv[row, start:].ctypes.data
                arithmetic.accumulate(bias, (last - first) * LANES, out)


@compiled
def _turn(t: Task, layer: int, part: int, row: int, head: int) -> None:
    """A head of Q or K, normed where the model does so and turned to its position, as the thread's own."""
    # qkv [rows, ..] -> own_head[0] [d]
    net, out, d = t.net, t.work.own_head[t.rank, 0], t.net.head_dim
    start = net.matrices[layer, part].column + head * d
    for i in range(d):
        out[i] = t.work.qkv[row, start + i]
    if net.head_norms.shape[0]:
        x, weight = out.ctypes.data, net.head_norms[layer, part].ctypes.data
        arithmetic.norm(x, weight, d, net.epsilon, x)
    position, rope = t.order.positions[row], net.ropes[layer]
    rotate(out, net.cos[rope, position], net.sin[rope, position])


@compiled
def _keep(t: Task, layer: int, row: int) -> None:
    """Put a row's keys and values into its page."""
    pages, position, d = t.pages, t.order.positions[row], t.net.head_dim
    page, slot = t.order.page_table[t.order.page_lists[row] + position // LANES], position % LANES
    key, start = t.work.own_head[t.rank, 0], t.net.matrices[layer, V].column
    for group in range(t.net.n_kv_heads):
        _turn(t, layer, K, row, group)
        for i in range(d):
            pages.keys[page, layer, group, i, slot] = key[i]
            pages.values[page, layer, group, slot, i] = t.work.qkv[row, start + group * d + i]


@compiled
def _look(t: Task, layer: int, row: int, head: int) -> None:
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
    keys, values = t.pages.keys[:, layer, group], t.pages.values[:, layer, group]
    table = t.order.page_table[t.order.page_lists[row] :]
    attend(query, keys, values, table, first, last, t.work.own_scores[t.rank], seen)
    for i in range(d):
        t.work.mixed[row, head * d + i] = seen[i]
