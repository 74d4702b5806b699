"""A transformer of the Llama family, as it is: embed, layers of attention and feed-forward, logits.

Sources: Llama (https://arxiv.org/abs/2302.13971), grouped-query attention
(https://arxiv.org/abs/2305.13245), Qwen2 and Qwen3 (https://arxiv.org/abs/2505.09388), Gemma 3
(https://arxiv.org/abs/2503.19786). Everything runs on the array namespace of `Arrays`; a comment on each
function gives the shapes that go in and come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from realm_reference.compute.numpy import Array, Arrays, causal_attention, gelu, rms_norm, rotate, silu
from realm_reference.model.adapters import Adapter
from realm_reference.model.config import LlamaConfig
from realm_reference.model.kvcache import Cache, KVCache
from realm_reference.model.lora import UNCHANGED, LayerDeltas, lay_out, project
from realm_reference.model.weights import LlamaWeights

__all__ = ["KVCache", "Transformer"]

_ACTIVATIONS = {"silu": silu, "gelu": gelu}
_CHUNK = 512  # positions that go through the layers at once: bounds the attention scores of a long prompt


@dataclass(frozen=True)
class Transformer:
    """The model as a function of tokens and a cache. It has no state of its own: sequences live in their
    caches.
    """

    config: LlamaConfig
    weights: LlamaWeights
    arrays: Arrays
    deltas: tuple[LayerDeltas, ...] | None = None  # of the adapter that it runs with, if any

    def with_adapter(self, adapter: Adapter) -> Transformer:
        """The same model with an adapter; the weights are shared."""
        return replace(self, deltas=lay_out(adapter, self.config, self.arrays))

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
        rows = self.arrays.xp.take(self.weights.embedding, self.arrays.integers(tokens), axis=0)
        return rows * self.config.embedding_scale

    def layer(self, index: int, x: Array, cache: Cache, position: int) -> Array:
        """Run layer `index` on a chunk that begins at `position`, which the cache must have reached
        (ValueError if not).
        """
        # [n_seq, d] -> [n_seq, d]
        if not 0 <= index < self.config.n_layers:
            raise ValueError(f"layer {index} does not exist: there are {self.config.n_layers}")
        w = self.weights.layers[index]
        x = x + self._norm(self._attention(index, x, cache, position), w.post_attention_norm)
        return x + self._norm(self._feed_forward(index, x), w.post_ffn_norm)

    def logits(self, x: Array) -> Array:
        """Unnormalised log-probabilities of the next token, for each row."""
        # [n_seq, d] -> [n_seq, vocab]
        return self._norm(x, self.weights.final_norm) @ self.weights.unembedding

    def forward(self, ids: Sequence[int] | NDArray[np.integer], cache: Cache, rows: int = 1) -> Array:
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

    def _attention(self, index: int, x: Array, cache: Cache, position: int) -> Array:
        # [n_seq, d] -> [n_seq, d]
        a, c, w, lora = self.arrays, self.config, self.weights.layers[index], self._deltas(index)
        qkv = project(self._norm(x, w.attention_norm), w.qkv, lora.qkv)
        if w.qkv_bias is not None:
            qkv = qkv + w.qkv_bias
        # Queries and keys turn by the same angles, so their heads turn together; the values follow unturned.
        heads = a.xp.reshape(qkv, (x.shape[0], c.n_heads + 2 * c.n_kv_heads, c.head_dim))
        cos, sin = self._angles(index, position, x.shape[0])
        qk = rotate(a, self._norm(heads[:, : -c.n_kv_heads, :], w.qk_norm), cos, sin)
        k = a.xp.permute_dims(qk[:, c.n_heads :, :], (1, 0, 2))
        v = a.xp.permute_dims(heads[:, -c.n_kv_heads :, :], (1, 0, 2))
        keys, values = cache.extend(index, position, k, v)
        window = c.layers[index].window
        mixed = causal_attention(a, qk[:, : c.n_heads, :], keys, values, c.attention_scale, window)
        return project(mixed, w.output, lora.output)

    def _feed_forward(self, index: int, x: Array) -> Array:
        # [n_seq, d] -> [n_seq, d]
        w, lora, n = self.weights.layers[index], self._deltas(index), self.config.intermediate_size
        gate_up = project(self._norm(x, w.ffn_norm), w.gate_up, lora.gate_up)
        gate = _ACTIVATIONS[self.config.activation](self.arrays, gate_up[:, :n])
        return project(gate * gate_up[:, n:], w.down, lora.down)

    def _deltas(self, index: int) -> LayerDeltas:
        return UNCHANGED if self.deltas is None else self.deltas[index]

    def _norm(self, x: Array, weight: Array | None) -> Array:
        """RMS-norm over the last axis; without a weight this model has no norm there."""
        # [..., d], [d] or [n_head, d] -> [..., d]
        return x if weight is None else rms_norm(self.arrays, x, weight, self.config.rms_norm_eps)

    def _angles(self, index: int, position: int, n_seq: int) -> tuple[Array, Array]:
        """Cosines and sines of the rotary angles, which grow with the position: float64 first."""
        # -> [n_seq, 1, d/2] twice
        angles = np.arange(position, position + n_seq)[:, None, None] * self.weights.layers[index].frequencies
        magnitude = self.config.layers[index].rope.magnitude
        return (
            self.arrays.from_numpy(np.cos(angles) * magnitude),
            self.arrays.from_numpy(np.sin(angles) * magnitude),
        )
