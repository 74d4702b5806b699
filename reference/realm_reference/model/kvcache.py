"""The keys and values of the positions that a sequence has been through."""

from __future__ import annotations

import math
from typing import Protocol

from realm_reference.compute.numpy import Array, Arrays
from realm_reference.model.config import LlamaConfig

_BLOCK = 256  # positions


class Cache(Protocol):
    """What a transformer asks of wherever a sequence's keys and values are."""

    @property
    def length(self) -> int:
        """The number of positions that every layer holds."""

    def extend(self, layer: int, position: int, keys: Array, values: Array) -> tuple[Array, Array]:
        """Store the chunk that begins at `position`, and return all keys and values up to its end."""
        # [n_kv, n_seq, d] twice -> [n_kv, position + n_seq, d] twice


class KVCache:
    """Keys and values of one sequence, for every layer, in arrays that grow by blocks as positions arrive.

    Layers are filled one after the other, so each has its own fill; `length` is what all of them have.
    """

    def __init__(self, config: LlamaConfig, arrays: Arrays) -> None:
        self._arrays = arrays
        self._limit = config.context_length
        empty = arrays.empty((config.n_kv_heads, 0, config.head_dim))
        self._keys = [empty] * config.n_layers
        self._values = [empty] * config.n_layers
        self._filled = [0] * config.n_layers

    @property
    def length(self) -> int:
        """The number of positions that every layer holds."""
        return min(self._filled)

    @property
    def nbytes(self) -> int:
        """The memory that it has taken, room to grow included."""
        itemsize = self._arrays.xp.finfo(self._arrays.dtype).bits // 8
        elements: int = sum(math.prod(array.shape) for array in (*self._keys, *self._values))
        return elements * int(itemsize)

    def extend(self, layer: int, position: int, keys: Array, values: Array) -> tuple[Array, Array]:
        """Store the chunk that begins at `position`, and return all keys and values up to its end.

        What the layer held from `position` on is dropped: that is how a guest goes back. Raises ValueError
        for a position that would leave a gap, and for one beyond the model's context.
        """
        # [n_kv, n_seq, d] twice -> [n_kv, position + n_seq, d] twice
        end = position + keys.shape[1]
        if not 0 <= position <= self._filled[layer]:
            raise ValueError(
                f"position {position} leaves a gap: layer {layer} holds {self._filled[layer]} positions"
            )
        if end > self._limit:
            raise ValueError(f"position {end - 1} is beyond the context of {self._limit} positions")
        if end > self._keys[layer].shape[1]:
            self._keys[layer] = self._grown(self._keys[layer], position, end)
            self._values[layer] = self._grown(self._values[layer], position, end)
        self._keys[layer][:, position:end, :] = keys
        self._values[layer][:, position:end, :] = values
        self._filled[layer] = end
        return self._keys[layer][:, :end, :], self._values[layer][:, :end, :]

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on; raises ValueError if there are not so many."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate {self.length} positions to {length}")
        self._filled = [length] * len(self._filled)

    def copy(self) -> KVCache:
        """An independent cache with the same positions."""
        twin = object.__new__(KVCache)
        twin._arrays, twin._limit = self._arrays, self._limit
        twin._filled = list(self._filled)
        twin._keys = [self._grown(k, n, n) for k, n in zip(self._keys, self._filled, strict=True)]
        twin._values = [self._grown(v, n, n) for v, n in zip(self._values, self._filled, strict=True)]
        return twin

    def _grown(self, old: Array, kept: int, needed: int) -> Array:
        """A larger array with the first `kept` positions of `old`; growing by half keeps the copying
        linear.
        """
        wanted = max(needed, min(old.shape[1] * 3 // 2, self._limit))
        new = self._arrays.empty((old.shape[0], -(-wanted // _BLOCK) * _BLOCK, old.shape[2]))
        new[:, :kept, :] = old[:, :kept, :]
        return new
