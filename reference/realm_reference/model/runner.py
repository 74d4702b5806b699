"""What the engine asks of a loaded model: one step for many sequences, on keys and values kept in pages.

A step takes chunks: consecutive tokens of a sequence each, whether a prompt's part, one token of a decode
or drafts to be verified; they are the same call. Keys and values live in pages of `PAGE` positions
(PagedAttention, https://arxiv.org/abs/2309.06180), which the engine hands out; a runner only reads and writes
the pages that a chunk names. Runners differ in speed and in rounding, never in meaning, and are held to
`Transformer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from realm_reference.model.adapters import Adapter
from realm_reference.model.config import LlamaConfig

Floats = NDArray[np.float32]

PAGE: Final = 16
"""Positions of a page."""

BASE: Final = 0
"""The adapter slot of the model itself."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive tokens of one sequence, to go through the model in one step.

    `ids` [n] stand at `position` and after; `pages` [>= ceil((position + n) / PAGE)] are the sequence's from
    its beginning on. The keys and values of all positions before are there already. Logits are wanted of the
    last `rows` (0 to n). `adapter` is the slot of a loaded adapter, or `BASE`.
    """

    ids: NDArray[np.int32]
    position: int
    pages: NDArray[np.int32]
    rows: int
    adapter: int = BASE


class Runner(Protocol):
    """A model that runs steps. Calls come from one thread at a time; arguments have been checked."""

    @property
    def config(self) -> LlamaConfig:
        """The model's dimensions."""

    @property
    def vocab_size(self) -> int:
        """Logits of a position."""

    @property
    def precision(self) -> str:
        """How it computes, as reports name it: "float32" (plain arrays), "exact" or "int8" (compiled)."""

    @property
    def batch_invariant(self) -> bool:
        """Whether a position's bits depend on its sequence alone: neither on where chunks are cut nor on what
        else is in the step. If not, the bits are the same only for the same cuts.
        """

    @property
    def page_bytes(self) -> int:
        """Memory of a page in all layers, keys and values."""

    def reserve(self, pages: int) -> None:
        """Make room for pages 0 to `pages` - 1, empty; once, before the first step."""

    def load_adapter(self, slot: int, adapter: Adapter) -> None:
        """Hold `adapter`, which fits the model, as `slot`: a free one from 1 on. Chunks may name it then."""

    def unload_adapter(self, slot: int) -> None:
        """Free `slot` and its memory; no chunk names it any more."""

    def copy_page(self, source: int, target: int) -> None:
        """Make `target` hold what `source` holds."""

    def step(self, chunks: Sequence[Chunk]) -> Floats:
        """Run the chunks, each of another sequence; their wanted logits one below the other, [rows, V].

        The result may be overwritten by the next call.
        """

    def embed(self, ids: NDArray[np.int32]) -> Floats:
        """ABI v1: embeddings, [T] -> [T, D]."""

    def layer(
        self, index: int, hidden: Floats, position: int, pages: NDArray[np.int32], adapter: int = BASE
    ) -> Floats:
        """ABI v1: one layer on positions `position` and after of a sequence, [T, D] -> [T, D]; same bits as
        in `step`.
        """

    def logits(self, hidden: Floats) -> Floats:
        """ABI v1: logits of final hidden states, [T, D] -> [T, V]."""
