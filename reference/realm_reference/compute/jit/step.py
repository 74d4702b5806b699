"""A step of the model: the rows of an order through the layers that it names, by a team of threads.

Every thread runs `_step` on its own `Task`, and does what items of a stage it can claim (`team`). Items are
cut by outputs (tiles of a matrix), by rows, or by rows and heads; never by the numbers of a sum, so that it
has the same bits with any number of threads. What precedes a stage's items, `_norm` and `prepare`, each
thread does for itself, once it has an item: that is cheaper than to wait for one that does it for all.

The same model in the fewest lines: `model.transformer.Transformer`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from realm_reference.compute.jit import arithmetic, team
from realm_reference.compute.jit import simd as v
from realm_reference.compute.jit.compiled import compiled, entry_point
from realm_reference.compute.jit.embedding import unpack_output
from realm_reference.compute.jit.heads import keep, look
from realm_reference.compute.jit.layout import LANES
from realm_reference.compute.jit.matrix import VECTOR
from realm_reference.compute.jit.project import multiply_tiles, prepare, project, tiles_of
from realm_reference.compute.jit.state import (
    ATTENTION,
    DOWN,
    DOWN_STAGE,
    FFN,
    FFN_NORM_STAGE,
    GATE,
    GATE_STAGE,
    KEEP_STAGE,
    LOOK_STAGE,
    NORM_STAGE,
    OUTPUT,
    OUTPUT_STAGE,
    POST_ATTENTION,
    POST_FFN,
    QKV_STAGE,
    STAGES,
    UP,
    Q,
    Task,
    V,
)

F32: Final = np.float32
_EMBED_STAGE, _LOGITS_STAGE, _FIRST_LAYERS = 0, 1, 2


@entry_point
def run(t: Task) -> None:
    """Rank 0: one step, together with all others. The others: steps, until the order says that it ends."""
    while True:
        if t.rank:
            team.sleep(t.work.bells, t.rank)
        else:
            team.begin(t.work.counters, t.work.epoch, t.work.bells)
        if t.order.ends[0]:
            return
        t.work.own_epoch[t.rank, 0] = t.work.epoch[0]
        _step(t)
        if not t.rank:
            team.end(t.work.counters, t.work.epoch)
            return


@compiled
def _step(t: Task) -> None:
    if t.order.embeds[0]:
        _embed(t)
    for layer in range(t.order.layers[0], t.order.layers[1]):
        _attention(t, layer)
        _feed_forward(t, layer)
    if t.order.n_wanted[0]:
        _logits(t)


@compiled
def _claim(t: Task, stage: int) -> int:
    """The thread's next item of the stage; -1 if none is left."""
    return team.claim(t.work.counters, stage, t.work.own_epoch[t.rank, 0], team.items_of(t.ranks))


@compiled
def _next(t: Task, stage: int) -> int:
    """Finish an item and claim another."""
    team.finish(t.work.counters, stage, team.items_of(t.ranks), t.work.sleepers, t.work.bells)
    return _claim(t, stage)


@compiled
def _settle(t: Task, stage: int) -> None:
    """Wait for what other threads do of the stage."""
    epoch, items = t.work.own_epoch[t.rank, 0], team.items_of(t.ranks)
    team.settle(t.work.counters, stage, epoch, items, t.rank, t.work.sleepers, t.work.bells)


@compiled
def _embed(t: Task) -> None:
    """ids -> hidden [rows, d]."""
    item = _claim(t, _EMBED_STAGE)
    while item >= 0:
        for row in range(item, t.order.n_rows[0], team.items_of(t.ranks)):
            unpack_output(t.net.embedding[0], t.order.ids[row], t.work.hidden[row])
            for i in range(t.net.hidden):
                t.work.hidden[row, i] *= F32(t.net.embedding_scale)
        item = _next(t, _EMBED_STAGE)
    _settle(t, _EMBED_STAGE)


@compiled
def _attention(t: Task, layer: int) -> None:
    """hidden -> hidden + attention [rows, d]."""
    net, work, n, items = t.net, t.work, t.order.n_rows[0], team.items_of(t.ranks)
    stages, normed = _FIRST_LAYERS + layer * STAGES, work.own_normed[t.rank]
    item = _claim(t, stages + QKV_STAGE)
    if item >= 0:
        _norm(t, net.norms[layer, ATTENTION])
        prepare(t, normed, n)
    while item >= 0:
        project(t, layer, Q, V, item, normed, work.qkv)
        _add_bias(t, layer, item)
        item = _next(t, stages + QKV_STAGE)
    _settle(t, stages + QKV_STAGE)

    item = _claim(t, stages + KEEP_STAGE)
    while item >= 0:
        for row in range(item, n, items):
            keep(t, layer, row)
        item = _next(t, stages + KEEP_STAGE)
    _settle(t, stages + KEEP_STAGE)

    item, alike = _claim(t, stages + LOOK_STAGE), net.n_heads // net.n_kv_heads if n > 1 else 1
    while item >= 0:  # heads that see the same keys beside each other; rows that cost alike shared out
        for first in range(item * alike, n * net.n_heads, items * alike):
            for pair in range(first, first + alike):
                look(t, layer, pair // net.n_heads, pair % net.n_heads)
        item = _next(t, stages + LOOK_STAGE)
    _settle(t, stages + LOOK_STAGE)

    _project_onto(t, layer, OUTPUT, stages + OUTPUT_STAGE, work.mixed)
    if net.post_norms:
        _add_normed(t, stages + NORM_STAGE, net.norms[layer, POST_ATTENTION])


@compiled
def _feed_forward(t: Task, layer: int) -> None:
    """hidden -> hidden + feed-forward [rows, d]."""
    net, work, n = t.net, t.work, t.order.n_rows[0]
    stages, normed = _FIRST_LAYERS + layer * STAGES, work.own_normed[t.rank]
    item = _claim(t, stages + GATE_STAGE)
    if item >= 0:
        _norm(t, net.norms[layer, FFN])
        prepare(t, normed, n)
    while item >= 0:
        project(t, layer, GATE, UP, item, normed, work.gate_up)
        _gate(t, layer, item)
        item = _next(t, stages + GATE_STAGE)
    _settle(t, stages + GATE_STAGE)

    _project_onto(t, layer, DOWN, stages + DOWN_STAGE, work.gate_up[:, : work.gate_up.shape[1] // 2])
    if net.post_norms:
        _add_normed(t, stages + FFN_NORM_STAGE, net.norms[layer, POST_FFN])


@compiled
def _logits(t: Task) -> None:
    """hidden -> logits of the wanted rows, where the order says [wanted, vocabulary]."""
    n, x = t.order.n_wanted[0], t.work.own_normed[t.rank]
    item = _claim(t, _LOGITS_STAGE)
    if item >= 0:
        for i in range(n):
            row, out = t.work.hidden[t.order.wanted[i]].ctypes.data, x[i].ctypes.data
            arithmetic.norm(row, t.net.final_norm.ctypes.data, t.net.hidden, t.net.epsilon, out)
        prepare(t, x, n)
    while item >= 0:
        multiply_tiles(t, t.net.unembedding[0], item, x, n, t.order.logits[0], t.order.logits[1])
        item = _next(t, _LOGITS_STAGE)
    _settle(t, _LOGITS_STAGE)


@compiled
def _norm(t: Task, weight: Any) -> None:
    """All rows normed, in the thread's own memory."""
    # hidden [rows, d], [d] -> own_normed [rows, d]
    for row in range(t.order.n_rows[0]):
        x, out = t.work.hidden[row].ctypes.data, t.work.own_normed[t.rank, row].ctypes.data
        arithmetic.norm(x, weight.ctypes.data, t.net.hidden, t.net.epsilon, out)


@compiled
def _project_onto(t: Task, layer: int, part: int, stage: int, x: Any) -> None:
    """x times a matrix, onto hidden, unless it has to be normed before."""
    # [rows, inputs] -> added, hidden [rows, d]
    n, hidden, added = t.order.n_rows[0], t.work.hidden, t.work.added
    item = _claim(t, stage)
    if item >= 0:
        prepare(t, x, n)
    while item >= 0:
        project(t, layer, part, part, item, x, added)
        if not t.net.post_norms:
            first, last = tiles_of(t, t.net.matrices[layer, part], item)
            for row in range(n):
                at, out = added[row, first * LANES :].ctypes.data, hidden[row, first * LANES :].ctypes.data
                arithmetic.accumulate(at, (last - first) * LANES, out)
        item = _next(t, stage)
    _settle(t, stage)


@compiled
def _add_normed(t: Task, stage: int, weight: Any) -> None:
    """hidden + added [rows, d], normed with the weight [d] -> hidden."""
    item = _claim(t, stage)
    while item >= 0:
        for row in range(item, t.order.n_rows[0], team.items_of(t.ranks)):
            x = t.work.added[row].ctypes.data
            arithmetic.norm(x, weight.ctypes.data, t.net.hidden, t.net.epsilon, x)
            arithmetic.accumulate(x, t.net.hidden, t.work.hidden[row].ctypes.data)
        item = _next(t, stage)
    _settle(t, stage)


@compiled
def _gate(t: Task, layer: int, item: int) -> None:
    """activation(gate) * up, in the place of gate: an item's outputs of gate_up [rows, 2 * f]."""
    gate, up = t.net.matrices[layer, GATE], t.net.matrices[layer, UP]
    first, last = tiles_of(t, gate, item)
    for row in range(t.order.n_rows[0]):
        start = t.work.gate_up[row].ctypes.data
        for offset in range(first * VECTOR, last * VECTOR, VECTOR):
            at, factor = start + 4 * gate.column + offset, v.load(start + 4 * up.column + offset)
            x = v.load(at)
            v.store(at, v.multiply(arithmetic.gelu(x) if t.net.gelu else arithmetic.silu(x), factor))


@compiled
def _add_bias(t: Task, layer: int, item: int) -> None:
    """qkv + bias [rows, outputs], where the model has one: an item's outputs."""
    if t.net.qkv_bias.shape[0]:
        for part in range(Q, V + 1):
            matrix = t.net.matrices[layer, part]
            first, last = tiles_of(t, matrix, item)
            start = matrix.column + first * LANES
            for row in range(t.order.n_rows[0]):
                bias, out = t.net.qkv_bias[layer, start:].ctypes.data, t.work.qkv[row, start:].ctypes.data
                arithmetic.accumulate(bias, (last - first) * LANES, out)
