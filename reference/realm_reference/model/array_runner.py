"""The plain runner: the truth's own lines on keys and values that lie in pages.

Each chunk of a step goes through `Transformer` by itself, so what is in it never depends on its neighbours;
it gains nothing from a batch either. It runs on any array namespace, so on CuPy too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realm_reference.compute.numpy import Array, Arrays
from realm_reference.model.adapters import Adapter
from realm_reference.model.config import LlamaConfig
from realm_reference.model.runner import BASE, PAGE, Chunk, Floats
from realm_reference.model.transformer import Transformer


class ArrayRunner:
    """A `Runner` of plain arrays. Matrix products of one row are rounded otherwise than those of many, so a
    position's bits depend on how its sequence was cut.
    """

    batch_invariant = False

    def __init__(self, transformer: Transformer) -> None:
        self._transformer = transformer
        self._adapted = {BASE: transformer}
        self._arrays = transformer.arrays
        self._keys: list[Array] = []
        self._values: list[Array] = []

    @property
    def config(self) -> LlamaConfig:
        """The model's dimensions."""
        return self._transformer.config

    @property
    def vocab_size(self) -> int:
        """Logits of a position."""
        return self._transformer.vocab_size

    @property
    def precision(self) -> str:
        """float32, or float64 as the oracle."""
        return "float64" if self._itemsize == 8 else "float32"

    @property
    def page_bytes(self) -> int:
        """Memory of a page in all layers, keys and values."""
        c = self.config
        return 2 * self._itemsize * PAGE * c.n_layers * c.n_kv_heads * c.head_dim

    def reserve(self, pages: int) -> None:
        """Make room for `pages` pages. Memory that was never written to costs no more than addresses."""
        shape = (self.config.n_kv_heads, pages, PAGE, self.config.head_dim)
        self._keys = [self._arrays.empty(shape) for _ in range(self.config.n_layers)]
        self._values = [self._arrays.empty(shape) for _ in range(self.config.n_layers)]

    def load_adapter(self, slot: int, adapter: Adapter) -> None:
        """Hold `adapter` as `slot`; the weights are shared."""
        self._adapted[slot] = self._transformer.with_adapter(adapter)

    def unload_adapter(self, slot: int) -> None:
        """Free `slot`."""
        del self._adapted[slot]

    def copy_page(self, source: int, target: int) -> None:
        """Make `target` hold what `source` holds."""
        for array in (*self._keys, *self._values):
            array[:, target, :, :] = array[:, source, :, :]

    def step(self, chunks: Sequence[Chunk]) -> Floats:
        """The chunks, one after the other; [rows, V]."""
        return np.concatenate(
            [
                self._host(
                    self._adapted[chunk.adapter].forward(
                        chunk.ids, self._cache(chunk.pages, chunk.position), chunk.rows
                    )
                )
                for chunk in chunks
            ]
        )

    def embed(self, ids: NDArray[np.int32]) -> Floats:
        """ABI v1: embeddings, [T] -> [T, D]."""
        return self._host(self._transformer.embed(ids))

    def layer(
        self, index: int, hidden: Floats, position: int, pages: NDArray[np.int32], adapter: int = BASE
    ) -> Floats:
        """ABI v1: one layer on positions `position` and after of a sequence, [T, D] -> [T, D]."""
        x = self._arrays.from_numpy(hidden)
        return self._host(self._adapted[adapter].layer(index, x, self._cache(pages, position), position))

    def logits(self, hidden: Floats) -> Floats:
        """ABI v1: logits of final hidden states, [T, D] -> [T, V]."""
        return self._host(self._transformer.logits(self._arrays.from_numpy(hidden)))

    @property
    def _itemsize(self) -> int:
        return int(self._arrays.xp.finfo(self._arrays.dtype).bits) // 8

    def _cache(self, pages: NDArray[np.int32], length: int) -> PagedCache:
        return PagedCache(
            self._arrays, self._keys, self._values, self._arrays.integers(pages), pages.tolist(), length
        )

    def _host(self, array: Array) -> Floats:
        """A backend's array as float32 on the host, the one type that crosses the wall."""
        return self._arrays.to_numpy(array).astype(np.float32, copy=False)


@dataclass(frozen=True)
class PagedCache:
    """One sequence's keys and values in pages, as `Transformer` asks for them.

    `keys` and `values` [n_kv, pages, PAGE, d] are all pages of each layer; `index` are the sequence's as the
    backend's integers, `pages` the same on the host; `length` positions are there before the chunk.
    """

    arrays: Arrays
    keys: list[Array]
    values: list[Array]
    index: Array
    pages: list[int]
    length: int

    def extend(self, layer: int, position: int, keys: Array, values: Array) -> tuple[Array, Array]:
        """Store the chunk that begins at `position`, and return all keys and values up to its end."""
        # [n_kv, n_seq, d] twice -> [n_kv, position + n_seq, d] twice
        end = position + keys.shape[1]
        for number in range(position // PAGE, -(-end // PAGE)):
            begin, stop = max(position, number * PAGE), min(end, (number + 1) * PAGE)
            there = slice(begin - number * PAGE, stop - number * PAGE)
            here = slice(begin - position, stop - position)
            self.keys[layer][:, self.pages[number], there, :] = keys[:, here, :]
            self.values[layer][:, self.pages[number], there, :] = values[:, here, :]
        return self._gathered(self.keys[layer], end), self._gathered(self.values[layer], end)

    def _gathered(self, array: Array, end: int) -> Array:
        # [n_kv, pages, PAGE, d] -> [n_kv, end, d]
        xp = self.arrays.xp
        held = xp.take(array, self.index[: -(-end // PAGE)], axis=1)
        return xp.reshape(held, (array.shape[0], -1, array.shape[3]))[:, :end, :]
