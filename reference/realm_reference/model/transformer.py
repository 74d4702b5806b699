"""A Llama transformer, as it is: embed, layers of attention and feed-forward, logits.

Sources: Llama (https://arxiv.org/abs/2302.13971), grouped-query attention
(https://arxiv.org/abs/2305.13245). Everything runs on the array namespace of `Arrays`; a comment on each
function gives the shapes that go in and come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realm_reference.compute.numpy import Array, Arrays, causal_attention, rms_norm, rotate, silu
from realm_reference.model.config import LlamaConfig
from realm_reference.model.kvcache import KVCache
from realm_reference.model.weights import LlamaWeights

__all__ = ["KVCache", "Transformer"]

_CHUNK = 512  # positions that go through the layers at once: bounds the attention scores of a long prompt


@dataclass(frozen=True)
class Transformer:
    """The model as a function of tokens and a cache. It has no state of its own: sequences live in their
    caches.
    """

    config: LlamaConfig
    weights: LlamaWeights
    arrays: Arrays

    @property
    def vocab_size(self) -> int:
        """The number of logits of a position."""
        return int(self.weights.embedding.shape[0])

    def new_cache(self) -> KVCache:
        """An empty cache for one sequence."""
        return KVCache(self.config, self.arrays)

    def embed(self, ids: Sequence[int] | NDArray[np.integer]) -> Array:
        """The embeddings of token `ids`; raises ValueError for an id outside the vocabulary."""
        # [n_seq] -> [n_seq, d]
        tokens = np.asarray(ids, np.int64).reshape(-1)
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.vocab_size:
            raise ValueError(f"token ids must lie in 0 to {self.vocab_size - 1}")
        return self.arrays.xp.take(self.weights.embedding, self.arrays.integers(tokens), axis=0)

    def layer(self, index: int, x: Array, cache: KVCache, position: int) -> Array:
        """Run layer `index` on a chunk that begins at `position`, which the cache must have reached
        (ValueError if not).
        """
        # [n_seq, d] -> [n_seq, d]
        if not 0 <= index < self.config.n_layers:
            raise ValueError(f"layer {index} does not exist: there are {self.config.n_layers}")
        x = x + self._attention(index, x, cache, position)
        return x + self._feed_forward(index, x)

    def logits(self, x: Array) -> Array:
        """Unnormalised log-probabilities of the next token, for each row."""
        # [n_seq, d] -> [n_seq, vocab]
        return (
            rms_norm(self.arrays, x, self.weights.final_norm, self.config.rms_norm_eps)
            @ self.weights.unembedding
        )

    def forward(self, ids: Sequence[int] | NDArray[np.integer], cache: KVCache, rows: int = 1) -> Array:
        """Append `ids` to the cached sequence and return the logits of the last `rows` of them.

        Raises ValueError for an unknown id, for more rows than ids, and for a sequence beyond the context;
        the cache keeps its length then.
        """
        # [n_seq] -> [rows, vocab]
        if not 0 <= rows <= len(ids):
            raise ValueError(f"cannot give {rows} rows of logits for {len(ids)} tokens")
        start = cache.length
        if start + len(ids) > self.config.context_length:
            raise ValueError(
                f"{start + len(ids)} positions exceed the context of {self.config.context_length}"
            )
        x = self.embed(ids)
        outputs = [x[:0, :]]
        for begin in range(0, len(ids), _CHUNK):
            chunk = x[begin : min(begin + _CHUNK, len(ids)), :]
            for index in range(self.config.n_layers):
                chunk = self.layer(index, chunk, cache, start + begin)
            outputs.append(chunk)
        hidden = self.arrays.xp.concat(outputs, axis=0)
        return self.logits(hidden[len(ids) - rows :, :])

    def _attention(self, index: int, x: Array, cache: KVCache, position: int) -> Array:
        # [n_seq, d] -> [n_seq, d]
        a, c, w = self.arrays, self.config, self.weights.layers[index]
        qkv = rms_norm(a, x, w.attention_norm, c.rms_norm_eps) @ w.qkv
        # Queries and keys turn by the same angles, so their heads turn together; the values follow unturned.
        heads = a.xp.reshape(qkv, (x.shape[0], c.n_heads + 2 * c.n_kv_heads, c.head_dim))
        cos, sin = self._angles(position, x.shape[0])
        qk = rotate(a, heads[:, : -c.n_kv_heads, :], cos, sin)
        k = a.xp.permute_dims(qk[:, c.n_heads :, :], (1, 0, 2))
        v = a.xp.permute_dims(heads[:, -c.n_kv_heads :, :], (1, 0, 2))
        keys, values = cache.extend(index, position, k, v)
        return causal_attention(a, qk[:, : c.n_heads, :], keys, values) @ w.output

    def _feed_forward(self, index: int, x: Array) -> Array:
        # [n_seq, d] -> [n_seq, d]
        a, w = self.arrays, self.weights.layers[index]
        gate_up = rms_norm(a, x, w.ffn_norm, self.config.rms_norm_eps) @ w.gate_up
        gate, up = gate_up[:, : self.config.intermediate_size], gate_up[:, self.config.intermediate_size :]
        return (silu(a, gate) * up) @ w.down

    def _angles(self, position: int, n_seq: int) -> tuple[Array, Array]:
        """Cosines and sines of the rotary angles, which grow with the position: float64 first."""
        # -> [n_seq, 1, d/2] twice
        d = self.config.head_dim
        frequencies = self.config.rope_theta ** -(np.arange(0, d, 2) / d) / self.weights.rope_factors
        angles = np.arange(position, position + n_seq)[:, None, None] * frequencies
        return self.arrays.from_numpy(np.cos(angles)), self.arrays.from_numpy(np.sin(angles))
