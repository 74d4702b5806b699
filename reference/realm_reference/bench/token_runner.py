"""A model that costs next to nothing and forgets nothing, for what is about the engine alone.

What it answers depends on every position in every page of a sequence: a wrong page, one that was overwritten
or copied too late, a position that was left out or an adapter mixed up gives other numbers than the tokens
do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from realm_reference.model.adapters import Adapter
from realm_reference.model.config import LlamaConfig
from realm_reference.model.runner import BASE, PAGE, Chunk, Floats

VOCAB: Final = 8
_MASK: Final = (1 << 61) - 1
_SPREAD: Final = np.arange(1, VOCAB + 1) * 7


class TokenRunner:
    """A `Runner` that keeps, for each position, a number made of all tokens up to it; logits are made of
    these numbers. `before_step` is called with the chunks of each step.
    """

    precision = "exact"
    batch_invariant = True
    vocab_size = VOCAB
    page_bytes = 8 * PAGE

    def __init__(
        self,
        context: int = 640,
        layers: int = 2,
        before_step: Callable[[Sequence[Chunk]], None] | None = None,
    ) -> None:
        self.config = cast(LlamaConfig, SimpleNamespace(context_length=context, n_layers=layers))
        self._before_step = before_step
        self._states = np.zeros((0, PAGE), np.int64)

    def reserve(self, pages: int) -> None:
        """Make room for `pages` pages."""
        self._states = np.full((pages, PAGE), -1, np.int64)

    def load_adapter(self, slot: int, adapter: Adapter) -> None:
        """A slot's number is all that counts of it."""

    def unload_adapter(self, slot: int) -> None:
        """Nothing to forget."""

    def copy_page(self, source: int, target: int) -> None:
        """Make `target` hold what `source` holds."""
        self._states[target] = self._states[source]

    def step(self, chunks: Sequence[Chunk]) -> Floats:
        """The wanted logits, one below the other, [rows, V]."""
        if self._before_step is not None:
            self._before_step(chunks)
        return np.concatenate([self._forward(chunk) for chunk in chunks])

    def embed(self, ids: NDArray[np.int32]) -> Floats:
        """The ids themselves, [T] -> [T, 1]."""
        return ids[:, None].astype(np.float32)

    def layer(
        self, index: int, hidden: Floats, position: int, pages: NDArray[np.int32], adapter: int = BASE
    ) -> Floats:
        """Marks the positions, [T, 1] -> [T, 1]."""
        for at in range(position, position + len(hidden)):
            self._states[pages[at // PAGE], at % PAGE] = -2
        return hidden + index + adapter

    def logits(self, hidden: Floats) -> Floats:
        """[T, 1] -> [T, V]."""
        return np.repeat(hidden, VOCAB, axis=1)

    def _forward(self, chunk: Chunk) -> Floats:
        begin, end = chunk.position, chunk.position + len(chunk.ids)
        held = self._states[chunk.pages].reshape(-1)
        state = int(held[begin - 1]) if begin else chunk.adapter
        for position, token in enumerate(chunk.ids.tolist(), begin):
            state = _next(state, token, chunk.adapter)
            held[position] = state
            self._states[chunk.pages[position // PAGE], position % PAGE] = state
        sums = np.cumsum(held[:end] & 0xFFFF)
        return _logits(held[end - chunk.rows : end], sums[end - chunk.rows :])


def _next(state: int, token: int, adapter: int) -> int:
    return (state * 1_000_003 + token * 31 + adapter * 7 + 1) & _MASK


def _logits(states: NDArray[np.int64], sums: NDArray[np.int64]) -> Floats:
    # [rows], [rows] -> [rows, V]
    return (((states[:, None] >> _SPREAD) ^ sums[:, None]) & 0xFFFF).astype(np.float32)


def logits_of(tokens: Iterable[int], rows: int = 1, adapter: int = BASE) -> Floats:
    """The logits of the last `rows` of these tokens, as the runner gives them alone, [rows, V]."""
    states, state = [], adapter
    for token in tokens:
        state = _next(state, token, adapter)
        states.append(state)
    held = np.array(states, np.int64)
    return _logits(held[len(held) - rows :], np.cumsum(held & 0xFFFF)[len(held) - rows :])
