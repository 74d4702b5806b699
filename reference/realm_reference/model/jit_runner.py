"""The compiled runner: packed weights, and steps by a team of threads (`compute.jit`).

Steps of more rows than the compiled step takes are cut; that changes no bit, because nothing does but the
sequence itself.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from realm_reference.compute.jit.layout import LANES, PackedMatrix, aligned_zeros
from realm_reference.compute.jit.matrix import describe
from realm_reference.compute.jit.packing import pack
from realm_reference.compute.jit.state import (
    ROWS,
    Pages,
    Task,
    new_order,
    new_workspace,
    no_matrices,
    padded,
)
from realm_reference.compute.jit.step import run
from realm_reference.compute.jit.team import new_bells
from realm_reference.model.adapters import MAX_RANK, TARGETS, Adapter
from realm_reference.model.config import LlamaConfig
from realm_reference.model.errors import AdapterFileError
from realm_reference.model.jit_network import new_network
from realm_reference.model.packed_weights import PackedWeights
from realm_reference.model.runner import BASE, PAGE, Chunk, Floats

Precision = Literal["exact", "int8"]

ADAPTER_SLOTS = 256
"""Adapters in memory at a time; what the compiled step needs of them is reserved at the start."""

assert PAGE == LANES  # a page's positions are a vector's lanes: see `compute.jit.attention`


class JitRunner:
    """A `Runner` of compiled code on `threads` threads, one of which is the caller's.

    Raises OSError where a team of threads cannot be had (macOS and Windows lack its semaphores): one thread
    always can.
    """

    batch_invariant = True

    def __init__(
        self, config: LlamaConfig, weights: PackedWeights, precision: Precision = "exact", threads: int = 1
    ) -> None:
        self.config, self.precision = config, precision
        self._weights = weights  # the compiled code knows addresses only
        self._network = new_network(config, weights, precision == "int8")
        self._adapters = no_matrices(ADAPTER_SLOTS + 1, config.n_layers, len(TARGETS), 2)
        self._adapter_memory: dict[int, list[PackedMatrix]] = {}
        self._order = new_order(config.context_length)
        self._work = new_workspace(
            self._network, threads, config.context_length, MAX_RANK, new_bells(threads)
        )
        self._ranks = threads
        self._logits = aligned_zeros((0, padded(weights.unembedding.outputs, LANES)), np.float32)
        self._pages = self._new_pages(0)

    @property
    def vocab_size(self) -> int:
        """Logits of a position."""
        return self._weights.unembedding.outputs

    @property
    def page_bytes(self) -> int:
        """Memory of a page in all layers, keys and values."""
        c = self.config
        return 2 * 4 * PAGE * c.n_layers * c.n_kv_heads * padded(c.head_dim, LANES)

    def reserve(self, pages: int) -> None:
        """Make room for `pages` pages, and start the team; memory of a page is taken as it is first used.

        The code is compiled or loaded here, rather than in somebody's first step.
        """
        if self._pages.keys.shape[2]:
            raise ValueError("the pages of a runner are reserved once")
        self._pages = self._new_pages(pages)
        for rank in range(1, self._ranks):
            threading.Thread(target=run, args=(self._task(rank),), name=f"step-{rank}", daemon=True).start()
        if self._ranks > 1:
            weakref.finalize(self, _end_team, self._task(0))
        self._rows(0, 0)
        self._run(self._logits, (0, 0), embeds=False)

    def load_adapter(self, slot: int, adapter: Adapter) -> None:
        """Hold `adapter` as `slot`; AdapterFileError if there are no more."""
        if slot <= BASE:
            raise ValueError(f"an adapter's slot is 1 to {ADAPTER_SLOTS}, not {slot}")
        if slot > ADAPTER_SLOTS:
            raise AdapterFileError(
                f"no room for the adapter {adapter.name!r}: the compiled path holds {ADAPTER_SLOTS} at"
                " a time, those in use included; load fewer, or start with --compute numpy"
            )
        held = self._adapter_memory[slot] = []
        for index, layer in enumerate(adapter.layers):
            for target, factors in layer.items():
                pair = [pack(factors.a), pack(factors.b)]
                self._adapters[slot, index, TARGETS.index(target)] = [describe(matrix) for matrix in pair]
                held += pair

    def unload_adapter(self, slot: int) -> None:
        """Free `slot`."""
        self._adapters[slot] = no_matrices(1)[0]
        del self._adapter_memory[slot]

    def copy_page(self, source: int, target: int) -> None:
        """Make `target` hold what `source` holds."""
        self._pages.keys[:, :, target] = self._pages.keys[:, :, source]
        self._pages.values[:, :, target] = self._pages.values[:, :, source]

    def step(self, chunks: Sequence[Chunk]) -> Floats:
        """All chunks at once; [rows, V]."""
        logits, done = self._room_for_logits(sum(chunk.rows for chunk in chunks)), 0
        for slice_ in _slices(chunks):
            self._place(slice_)
            done += self._run(logits[done:], (0, self.config.n_layers), embeds=True)
        return logits[:, : self.vocab_size]

    def embed(self, ids: NDArray[np.int32]) -> Floats:
        """ABI v1: embeddings, [T] -> [T, D]."""
        out = np.empty((len(ids), self.config.hidden_size), np.float32)
        for start in range(0, len(ids), ROWS):
            part = out[start : start + ROWS]
            self._order.ids[: len(part)] = ids[start : start + ROWS]
            self._rows(len(part), 0)
            self._run(self._logits, (0, 0), embeds=True)
            part[:] = self._work.hidden[: len(part), : self.config.hidden_size]
        return out

    def layer(
        self, index: int, hidden: Floats, position: int, pages: NDArray[np.int32], adapter: int = BASE
    ) -> Floats:
        """ABI v1: one layer on positions `position` and after of a sequence, [T, D] -> [T, D]."""
        out = np.empty_like(hidden)
        for start in range(0, len(hidden), ROWS):
            part = hidden[start : start + ROWS]
            ids = np.zeros(len(part), np.int32)
            self._place([Chunk(ids, position + start, pages, 0, adapter)])
            self._work.hidden[: len(part), : self.config.hidden_size] = part
            self._run(self._logits, (index, index + 1), embeds=False)
            out[start : start + ROWS] = self._work.hidden[: len(part), : self.config.hidden_size]
        return out

    def logits(self, hidden: Floats) -> Floats:
        """ABI v1: logits of final hidden states, [T, D] -> [T, V]."""
        logits = self._room_for_logits(len(hidden))
        for start in range(0, len(hidden), ROWS):
            part = hidden[start : start + ROWS]
            self._work.hidden[: len(part), : self.config.hidden_size] = part
            self._order.wanted[: len(part)] = range(len(part))
            self._rows(len(part), len(part))
            self._run(logits[start:], (0, 0), embeds=False)
        return logits[:, : self.vocab_size]

    def _task(self, rank: int) -> Task:
        return Task(rank, self._ranks, self._network, self._pages, self._order, self._work, self._adapters)

    def _new_pages(self, count: int) -> Pages:
        c = self.config
        width = padded(c.head_dim, LANES)
        return Pages(
            aligned_zeros((c.n_layers, c.n_kv_heads, count, width, PAGE), np.float32),
            aligned_zeros((c.n_layers, c.n_kv_heads, count, PAGE, width), np.float32),
        )

    def _room_for_logits(self, rows: int) -> Floats:
        """[rows, V, padded]; the same memory as long as it suffices, because fresh memory costs time."""
        if rows > len(self._logits):
            self._logits = aligned_zeros((padded(rows), self._logits.shape[1]), np.float32)
        return self._logits[:rows]

    def _rows(self, n_rows: int, n_wanted: int) -> None:
        self._order.n_rows[0], self._order.n_wanted[0] = n_rows, n_wanted

    def _place(self, chunks: Sequence[Chunk]) -> None:
        """Write the rows of the chunks into the order."""
        order = self._order
        row = listed = wanted = 0
        for chunk in chunks:
            n = len(chunk.ids)
            end = chunk.position + n
            used = chunk.pages[: -(-end // PAGE)]
            order.ids[row : row + n] = chunk.ids
            order.positions[row : row + n] = range(chunk.position, end)
            order.page_table[listed : listed + len(used)] = used
            order.page_lists[row : row + n] = listed
            order.adapters[row : row + n] = chunk.adapter
            order.wanted[wanted : wanted + chunk.rows] = range(row + n - chunk.rows, row + n)
            row, listed, wanted = row + n, listed + len(used), wanted + chunk.rows
        self._rows(row, wanted)

    def _run(self, logits: Floats, layers: tuple[int, int], embeds: bool) -> int:
        """Run what the order holds; returns how many rows of logits it gave."""
        order = self._order
        order.layers[:] = layers
        order.embeds[0] = embeds
        order.logits[:] = logits.ctypes.data, logits.strides[0]
        run(self._task(0))
        return int(order.n_wanted[0])


def _slices(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """The chunks in their order, cut so that each list has at most `ROWS` rows."""
    slice_: list[Chunk] = []
    room = ROWS
    for chunk in chunks:
        ids, position = chunk.ids, chunk.position
        while len(ids):
            here, ids = ids[:room], ids[room:]
            rows = max(0, min(chunk.rows - len(ids), len(here)))
            slice_.append(Chunk(here, position, chunk.pages, rows, chunk.adapter))
            position, room = position + len(here), room - len(here)
            if not room:
                yield slice_
                slice_, room = [], ROWS
    if slice_:
        yield slice_


def _end_team(task: Task) -> None:
    """Let the other threads return; the task keeps alive what they read until then."""
    task.order.ends[0] = 1
    run(task)
