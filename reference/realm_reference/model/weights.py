"""The weights of a model of the Llama family: dequantised, laid out for matrix products, and checked against
the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realm_reference.compute.numpy import Array, Arrays
from realm_reference.model.config import LlamaConfig
from realm_reference.model.gguf import GGUFFile


@dataclass(frozen=True)
class LayerWeights:
    """One layer; matrices are [inputs, outputs], with q, k, v and gate, up each joined into one matrix. None
    stands for what the architecture does not have.
    """

    attention_norm: Array  # [hidden]
    qkv: Array  # [hidden, (n_heads + 2 * n_kv_heads) * head_dim]
    qkv_bias: Array | None  # [(n_heads + 2 * n_kv_heads) * head_dim]
    qk_norm: Array | None  # [n_heads + n_kv_heads, head_dim]; all query heads' alike, and all key heads'
    frequencies: NDArray[np.float64]  # [head_dim / 2]; radians per position of each rotary pair
    output: Array  # [n_heads * head_dim, hidden]
    post_attention_norm: Array | None  # [hidden]
    ffn_norm: Array  # [hidden]
    gate_up: Array  # [hidden, 2 * intermediate]
    down: Array  # [intermediate, hidden]
    post_ffn_norm: Array | None  # [hidden]


@dataclass(frozen=True)
class LlamaWeights:
    """All weights; `unembedding` is the embedding itself, transposed, where the file ties them."""

    embedding: Array  # [vocab, hidden]
    layers: tuple[LayerWeights, ...]
    final_norm: Array  # [hidden]
    unembedding: Array  # [hidden, vocab]


def load_weights(file: GGUFFile, config: LlamaConfig, arrays: Arrays) -> LlamaWeights:
    """Read every tensor of the model.

    Raises ModelFileError if one is missing or misshapen, or if the file has a tensor that its architecture
    does not: ignoring it would give wrong answers.
    """
    source = _Source(file, arrays)
    vocab_size = file.tensors["token_embd.weight"].shape[0] if "token_embd.weight" in file.tensors else 0
    embedding = arrays.from_numpy(source.read("token_embd.weight", (vocab_size, config.hidden_size)))
    factors = _rope_factors(source, config)
    weights = LlamaWeights(
        embedding=embedding,
        layers=tuple(_load_layer(source, config, i, factors) for i in range(config.n_layers)),
        final_norm=source.vector("output_norm.weight", config.hidden_size),
        unembedding=(
            source.matrix(("output.weight", (vocab_size, config.hidden_size)))
            if "output.weight" in file.tensors
            else embedding.T
        ),
    )
    source.refuse_leftovers(config.architecture)
    return weights


def _load_layer(
    source: _Source, config: LlamaConfig, index: int, rope_factors: NDArray[np.float64]
) -> LayerWeights:
    hidden, ffn, d = config.hidden_size, config.intermediate_size, config.head_dim
    prefix = f"blk.{index}."
    post = config.post_norms
    return LayerWeights(
        attention_norm=source.vector(prefix + "attn_norm.weight", hidden),
        qkv=source.arrays.from_numpy(_read_qkv(source, config, prefix, "weight", (hidden,))).T,
        qkv_bias=(
            source.arrays.from_numpy(_read_qkv(source, config, prefix, "bias")) if config.qkv_bias else None
        ),
        qk_norm=_read_qk_norm(source, config, prefix) if config.qk_norm else None,
        frequencies=config.layers[index].rope.frequencies(d) / rope_factors,
        output=source.matrix((prefix + "attn_output.weight", (hidden, config.n_heads * d))),
        post_attention_norm=source.vector(prefix + "post_attention_norm.weight", hidden) if post else None,
        ffn_norm=source.vector(prefix + "ffn_norm.weight", hidden),
        gate_up=source.matrix(
            (prefix + "ffn_gate.weight", (ffn, hidden)), (prefix + "ffn_up.weight", (ffn, hidden))
        ),
        down=source.matrix((prefix + "ffn_down.weight", (hidden, ffn))),
        post_ffn_norm=source.vector(prefix + "post_ffw_norm.weight", hidden) if post else None,
    )


def _read_qkv(
    source: _Source, config: LlamaConfig, prefix: str, kind: str, inputs: tuple[int, ...] = ()
) -> NDArray[np.float32]:
    """The weights or biases of q, k and v, one below the other, with rotary pairs half a head apart."""
    # -> [(n_heads + 2 * n_kv_heads) * head_dim, *inputs]
    d = config.head_dim
    q, k, v = (
        source.read(f"{prefix}attn_{name}.{kind}", (heads * d, *inputs))
        for name, heads in (("q", config.n_heads), ("k", config.n_kv_heads), ("v", config.n_kv_heads))
    )
    return np.concatenate([split_pairs(q, d), split_pairs(k, d), v] if config.interleaved_rope else [q, k, v])


def _read_qk_norm(source: _Source, config: LlamaConfig, prefix: str) -> Array:
    # -> [n_heads + n_kv_heads, head_dim]
    q = source.read(prefix + "attn_q_norm.weight", (config.head_dim,))
    k = source.read(prefix + "attn_k_norm.weight", (config.head_dim,))
    return source.arrays.from_numpy(np.stack([q] * config.n_heads + [k] * config.n_kv_heads))


def split_pairs(weight: NDArray[np.float32], head_dim: int) -> NDArray[np.float32]:
    """Undo the file's order of q and k rows.

    A Llama GGUF holds the rows of each head so that neighbours (2i, 2i + 1) are a rotary pair; `rotate`
    pairs i with i + d/2, which needs no strided access. Both q and k are reordered alike, so their products
    stay the same.
    """
    # [n_head * d, hidden] -> [n_head * d, hidden]
    n_rows, hidden = weight.shape
    return weight.reshape(n_rows // head_dim, head_dim // 2, 2, hidden).swapaxes(1, 2).reshape(n_rows, hidden)


def _rope_factors(source: _Source, config: LlamaConfig) -> NDArray[np.float64]:
    """What Llama 3 divides its rotary frequencies by, which it stores as a tensor; ones without it."""
    # -> [head_dim / 2]
    factors = np.ones(config.head_dim // 2)
    if "rope_freqs.weight" in source.file.tensors:
        factors = factors * source.read("rope_freqs.weight", factors.shape)
        if not (np.isfinite(factors) & (factors > 0)).all():
            raise source.file.error(
                "the tensor rope_freqs.weight holds factors that are not positive numbers"
            )
    return factors


class _Source:
    """The tensors of a file, each checked for its shape; what was never read is a fault."""

    def __init__(self, file: GGUFFile, arrays: Arrays) -> None:
        self.file = file
        self.arrays = arrays
        self._unread = set(file.tensors)

    def read(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        info = self.file.tensors.get(name)
        if info is not None and info.shape != shape:
            raise self.file.error(f"the tensor {name} has the shape {info.shape}, not {shape}")
        self._unread.discard(name)
        return self.file.tensor(name)

    def vector(self, name: str, size: int) -> Array:
        return self.arrays.from_numpy(self.read(name, (size,)))

    def matrix(self, *parts: tuple[str, tuple[int, int]]) -> Array:
        """The named [outputs, inputs] tensors, one below the other, as the view [inputs, outputs]."""
        rows = [self.read(name, shape) for name, shape in parts]
        return self.arrays.from_numpy(rows[0] if len(rows) == 1 else np.concatenate(rows)).T

    def refuse_leftovers(self, architecture: str) -> None:
        if self._unread:
            raise self.file.error(
                f"the tensor {min(self._unread)[:80]!r} is not part of a plain {architecture} model",
                "the reference cannot run this variant",
            )
