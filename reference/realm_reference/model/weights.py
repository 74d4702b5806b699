"""The weights of a model of the Llama family: dequantised, laid out for matrix products, and checked against
the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from realm_reference.compute.numpy import Array, Arrays
from realm_reference.model.config import LlamaConfig
from realm_reference.model.gguf import GGUFFile, TensorInfo

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class LayerVectors:
    """What a layer has beside its matrices. None stands for what the architecture does not have."""

    attention_norm: Array  # [hidden]
    qkv_bias: Array | None  # [(n_heads + 2 * n_kv_heads) * head_dim]
    qk_norm: Array | None  # [n_heads + n_kv_heads, head_dim]; all query heads' alike, and all key heads'
    frequencies: NDArray[np.float64]  # [head_dim / 2]; radians per position of each rotary pair
    post_attention_norm: Array | None  # [hidden]
    ffn_norm: Array  # [hidden]
    post_ffn_norm: Array | None  # [hidden]


@dataclass(frozen=True)
class LayerWeights(LayerVectors):
    """One layer; matrices are [inputs, outputs], with q, k, v and gate, up each joined into one matrix."""

    qkv: Array  # [hidden, (n_heads + 2 * n_kv_heads) * head_dim]
    output: Array  # [n_heads * head_dim, hidden]
    gate_up: Array  # [hidden, 2 * intermediate]
    down: Array  # [intermediate, hidden]


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
    source = TensorSource(file, arrays)
    embedding_shape = (vocab_size(file), config.hidden_size)
    embedding = arrays.from_numpy(source.read("token_embd.weight", embedding_shape))
    factors = rope_factors(source, config)
    weights = LlamaWeights(
        embedding=embedding,
        layers=tuple(_load_layer(source, config, i, factors) for i in range(config.n_layers)),
        final_norm=source.vector("output_norm.weight", config.hidden_size),
        unembedding=(
            source.matrix(("output.weight", embedding_shape))
            if "output.weight" in file.tensors
            else embedding.T
        ),
    )
    source.refuse_leftovers(config.architecture)
    return weights


def vocab_size(file: GGUFFile) -> int:
    """The rows of the embedding; 0 without one, which its reading refuses."""
    embedding = file.tensors.get("token_embd.weight")
    return 0 if embedding is None else embedding.shape[0]


def layer_matrices(config: LlamaConfig, index: int) -> dict[str, tuple[str, tuple[int, int]]]:
    """The tensors of a layer's matrices and their shapes [outputs, inputs], by what adapters call them."""
    hidden, ffn, d = config.hidden_size, config.intermediate_size, config.head_dim
    shapes = {
        "q": ("attn_q", (config.n_heads * d, hidden)),
        "k": ("attn_k", (config.n_kv_heads * d, hidden)),
        "v": ("attn_v", (config.n_kv_heads * d, hidden)),
        "output": ("attn_output", (hidden, config.n_heads * d)),
        "gate": ("ffn_gate", (ffn, hidden)),
        "up": ("ffn_up", (ffn, hidden)),
        "down": ("ffn_down", (hidden, ffn)),
    }
    return {part: (f"blk.{index}.{name}.weight", shape) for part, (name, shape) in shapes.items()}


def load_layer_vectors(
    source: TensorSource, config: LlamaConfig, index: int, factors: NDArray[np.float64]
) -> LayerVectors:
    """Norms, biases and frequencies of a layer; `factors` [head_dim / 2] divide the rotary frequencies."""
    prefix, hidden, post = f"blk.{index}.", config.hidden_size, config.post_norms
    return LayerVectors(
        attention_norm=source.vector(prefix + "attn_norm.weight", hidden),
        qkv_bias=_read_qkv_bias(source, config, prefix) if config.qkv_bias else None,
        qk_norm=_read_qk_norm(source, config, prefix) if config.qk_norm else None,
        frequencies=config.layers[index].rope.frequencies(config.head_dim) / factors,
        post_attention_norm=source.vector(prefix + "post_attention_norm.weight", hidden) if post else None,
        ffn_norm=source.vector(prefix + "ffn_norm.weight", hidden),
        post_ffn_norm=source.vector(prefix + "post_ffw_norm.weight", hidden) if post else None,
    )


def _load_layer(
    source: TensorSource, config: LlamaConfig, index: int, factors: NDArray[np.float64]
) -> LayerWeights:
    m = layer_matrices(config, index)
    qkv = _in_halves(config, *(source.read(*m[part]) for part in ("q", "k", "v")))
    return LayerWeights(
        **vars(load_layer_vectors(source, config, index, factors)),
        qkv=source.arrays.from_numpy(qkv).T,
        output=source.matrix(m["output"]),
        gate_up=source.matrix(m["gate"], m["up"]),
        down=source.matrix(m["down"]),
    )


def _read_qkv_bias(source: TensorSource, config: LlamaConfig, prefix: str) -> Array:
    # -> [(n_heads + 2 * n_kv_heads) * head_dim]
    heads = {"q": config.n_heads, "k": config.n_kv_heads, "v": config.n_kv_heads}
    biases = (source.read(f"{prefix}attn_{part}.bias", (n * config.head_dim,)) for part, n in heads.items())
    return source.arrays.from_numpy(_in_halves(config, *biases))


def _in_halves(
    config: LlamaConfig, q: NDArray[np.float32], k: NDArray[np.float32], v: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The weights or biases of q, k and v, one below the other, with rotary pairs half a head apart."""
    # [outputs, ...] three times -> [(n_heads + 2 * n_kv_heads) * head_dim, ...]
    d = config.head_dim
    return np.concatenate([split_pairs(q, d), split_pairs(k, d), v] if config.interleaved_rope else [q, k, v])


def _read_qk_norm(source: TensorSource, config: LlamaConfig, prefix: str) -> Array:
    # -> [n_heads + n_kv_heads, head_dim]
    q = source.read(prefix + "attn_q_norm.weight", (config.head_dim,))
    k = source.read(prefix + "attn_k_norm.weight", (config.head_dim,))
    return source.arrays.from_numpy(np.stack([q] * config.n_heads + [k] * config.n_kv_heads))


def split_pairs(weight: NDArray[Number], head_dim: int) -> NDArray[Number]:
    """Undo the file's order of q and k rows.

    A Llama GGUF holds the rows of each head so that neighbours (2i, 2i + 1) are a rotary pair; `rotate`
    pairs i with i + d/2, which needs no strided access. Both q and k are reordered alike, so their products
    stay the same.
    """
    # [n_head * d, hidden] -> [n_head * d, hidden]
    n_rows, hidden = weight.shape
    return weight.reshape(n_rows // head_dim, head_dim // 2, 2, hidden).swapaxes(1, 2).reshape(n_rows, hidden)


def rope_factors(source: TensorSource, config: LlamaConfig) -> NDArray[np.float64]:
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


class TensorSource:
    """The tensors of a file, each checked for its shape; what was never read is a fault."""

    def __init__(self, file: GGUFFile, arrays: Arrays) -> None:
        self.file = file
        self.arrays = arrays
        self._unread = set(file.tensors)

    def claim(self, name: str, shape: tuple[int, ...]) -> TensorInfo:
        """Where the tensor lies; raises ModelFileError if it is missing or of another shape."""
        info = self.file.tensors.get(name)
        if info is None:
            raise self.file.error(f"the tensor {name} is missing")
        if info.shape != shape:
            raise self.file.error(f"the tensor {name} has the shape {info.shape}, not {shape}")
        self._unread.discard(name)
        return info

    def read(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The tensor in float32."""
        return self.file.tensor(self.claim(name, shape).name)

    def vector(self, name: str, size: int) -> Array:
        """The tensor [size] on the backend."""
        return self.arrays.from_numpy(self.read(name, (size,)))

    def matrix(self, *parts: tuple[str, tuple[int, int]]) -> Array:
        """The named [outputs, inputs] tensors, one below the other, as the view [inputs, outputs]."""
        rows = [self.read(name, shape) for name, shape in parts]
        return self.arrays.from_numpy(rows[0] if len(rows) == 1 else np.concatenate(rows)).T

    def refuse_leftovers(self, architecture: str) -> None:
        """Raises ModelFileError for a tensor that was never claimed."""
        if self._unread:
            raise self.file.error(
                f"the tensor {min(self._unread)[:80]!r} is not part of a plain {architecture} model",
                "the reference cannot run this variant",
            )
