"""What a step reads and writes: tuples of arrays, which Python fills and compiled code takes apart.

Rows are the tokens of a step, whatever sequences they belong to. Rows of activations are padded with zeros to
whole blocks, because that is how matrices read them.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from realm_reference.compute.jit.layout import BLOCK, LANES, aligned_zeros
from realm_reference.compute.jit.matrix import MATRIX

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]
Matrices = NDArray[np.void]

ROWS: Final = 128
"""Rows of one step at most; so many still lie in a second-level cache beside a tile of weights."""

Q, K, V, OUTPUT, GATE, UP, DOWN = range(7)
"""The matrices of a layer."""

ATTENTION, POST_ATTENTION, FFN, POST_FFN = range(4)
"""The norms of a layer."""

STAGES: Final = 8
QKV_STAGE, KEEP_STAGE, LOOK_STAGE, OUTPUT_STAGE, NORM_STAGE, GATE_STAGE, DOWN_STAGE, FFN_NORM_STAGE = range(
    STAGES
)
"""The stages of a layer; see `team`. Those of norms are for models that norm what they add."""


def padded(count: int, to: int = BLOCK) -> int:
    """The next multiple."""
    return -(-count // to) * to


class Network(NamedTuple):
    """A model: its weights and what else does not change. Absent norms and biases have no elements."""

    hidden: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    epsilon: float
    embedding_scale: float
    attention_scale: float
    gelu: bool  # and if not, SiLU
    int8: bool  # activations of coded matrices are rounded to eight bits
    kernel: int  # of matrix products: its address
    embedding: Matrices  # MATRIX [1]: tokens are its outputs
    unembedding: Matrices  # MATRIX [1]
    matrices: Matrices  # MATRIX [layers, 7]
    norms: Floats  # [layers, 4, hidden, padded]
    final_norm: Floats  # [hidden, padded]
    qkv_bias: Floats  # [layers or 0, width of qkv]
    head_norms: Floats  # [layers or 0, 2, head_dim, padded to a vector]; of queries and of keys
    windows: Counts  # [layers]; positions that a query sees, its own included; 0 for all
    ropes: Counts  # [layers]; which rotation
    cos: Floats  # [rotations, context, head_dim / 2]
    sin: Floats  # likewise
    post_norms: bool


class Pages(NamedTuple):
    """Keys and values; see `attention` for a page's inside. Widths are padded to a vector."""

    keys: Floats  # [layers, kv_heads, pages, head_dim, LANES]
    values: Floats  # [layers, kv_heads, pages, LANES, head_dim]


class Order(NamedTuple):
    """What is to be done in a step; filled anew for each."""

    n_rows: Counts  # [1]
    layers: Counts  # [2]: from, to
    embeds: Counts  # [1]: whether rows begin as tokens; or `hidden` holds them already
    ids: Counts  # [ROWS]
    positions: Counts  # [ROWS]; of the row in its sequence
    page_table: Counts  # [..]; the sequences' pages, one list behind the other
    page_lists: Counts  # [ROWS]; where the list of the row's sequence begins
    adapters: Counts  # [ROWS]; slots, 0 for none
    n_wanted: Counts  # [1]
    wanted: Counts  # [ROWS]; rows whose logits are wanted
    logits: Counts  # [2]: address of the first row, and bytes from row to row
    ends: Counts  # [1]: whether the threads of the team are to end


class Workspace(NamedTuple):
    """Activations between the parts of a step, and scratch that each thread has for itself."""

    hidden: Floats  # [ROWS, hidden]: the residual stream
    qkv: Floats  # [ROWS, queries, keys, values]
    mixed: Floats  # [ROWS, n_heads * head_dim]: what the heads saw
    gate_up: Floats  # [ROWS, 2 * intermediate]; the left half becomes the product
    added: Floats  # [ROWS, hidden]: what a layer's half adds to the residual stream
    own_normed: Floats  # [ranks, ROWS, hidden]
    own_codes: NDArray[np.int8]  # [ranks, ROWS, widest input]; activations rounded
    own_notes: Floats  # [ranks, ROWS, ..]; what kernels want beside the activations
    own_head: Floats  # [ranks, 2, head_dim]: a query or key, and what it saw
    own_scores: Floats  # [ranks, context]
    own_factor: Floats  # [ranks, 1, highest rank of an adapter]
    own_delta: Floats  # [ranks, widest output]
    epoch: Counts  # [1]: the number of the step
    own_epoch: Counts  # [ranks, 8]: the number of the step that the thread is in
    counters: Counts  # [stages, 2, 8]: see `team.begin`
    sleepers: Counts  # [ranks, 8]: see `team.settle`
    bells: NDArray[np.uint8]  # [ranks, ..]: see `team.sleep`


class Task(NamedTuple):
    """Everything, as one thread of the team sees it."""

    rank: int
    ranks: int
    net: Network
    pages: Pages
    order: Order
    work: Workspace
    adapters: Matrices  # MATRIX [slots, layers, 7, 2]; the factors a and b of each slot's changes


def new_workspace(network: Network, ranks: int, context: int, max_rank: int, bells: Any) -> Workspace:
    """Room for steps of `ROWS` rows; memory is taken as it is first touched."""

    def floats(*shape: int) -> Floats:
        return aligned_zeros(shape, np.float32)

    hidden = network.final_norm.shape[0]
    ffn = padded(int(network.matrices[0, DOWN]["inputs"]))
    mixed = padded(network.n_heads * network.head_dim)
    widest, width = max(hidden, ffn, mixed), padded(network.head_dim, LANES)
    last = network.matrices[0, V]
    qkv = int(last["column"] + last["tiles"] * LANES)
    return Workspace(
        hidden=floats(ROWS, hidden),
        qkv=floats(ROWS, qkv),
        mixed=floats(ROWS, mixed),
        gate_up=floats(ROWS, 2 * ffn),
        added=floats(ROWS, hidden),
        own_normed=floats(ranks, ROWS, hidden),
        own_codes=aligned_zeros((ranks, ROWS, widest), np.int8),
        own_notes=floats(ranks, ROWS, widest // 4),  # four for each sixteen inputs, at most
        own_head=floats(ranks, 2, width),
        own_scores=floats(ranks, padded(context, LANES)),
        own_factor=floats(ranks, 1, padded(max_rank)),
        own_delta=floats(ranks, max(qkv, 2 * ffn, hidden)),
        epoch=aligned_zeros((1,), np.int64),
        own_epoch=aligned_zeros((ranks, 8), np.int64),  # a cache line each, as of all counters
        counters=aligned_zeros((len(network.matrices) * STAGES + 2, 2, 8), np.int64),
        sleepers=aligned_zeros((ranks, 8), np.int64),
        bells=bells,
    )


def new_order(context: int) -> Order:
    """An order for nothing yet."""
    sizes = dict.fromkeys(("ids", "positions", "page_lists", "adapters", "wanted"), ROWS)
    sizes |= {"layers": 2, "logits": 2, "page_table": ROWS * (padded(context, LANES) // LANES)}
    return Order(**{field: np.zeros(sizes.get(field, 1), np.int64) for field in Order._fields})


def no_matrices(*shape: int) -> Matrices:
    """A table of matrices that are not there."""
    return np.zeros(shape, MATRIX)
