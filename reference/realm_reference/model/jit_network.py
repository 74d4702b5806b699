"""A model's packed weights and configuration as the tables that compiled code reads."""

from __future__ import annotations

import numpy as np

from realm_reference.compute.jit.layout import LANES
from realm_reference.compute.jit.matrix import MATRIX, describe
from realm_reference.compute.jit.multiply import kernel_address
from realm_reference.compute.jit.state import Counts, Floats, Matrices, Network, padded
from realm_reference.model.config import LlamaConfig
from realm_reference.model.packed_weights import PackedLayer, PackedWeights


def new_network(config: LlamaConfig, weights: PackedWeights, int8: bool) -> Network:
    """The tables; they hold addresses of the packed matrices, which have to outlive them."""
    matrices = np.array([_layer_matrices(layer) for layer in weights.layers], MATRIX)
    cos, sin, ropes = _rotations(config, weights)
    return Network(
        hidden=config.hidden_size,
        n_heads=config.n_heads,
        n_kv_heads=config.n_kv_heads,
        head_dim=config.head_dim,
        epsilon=config.rms_norm_eps,
        embedding_scale=config.embedding_scale,
        attention_scale=config.attention_scale,
        gelu=config.activation == "gelu",
        post_norms=config.post_norms,
        int8=int8,
        kernel=kernel_address(),
        embedding=np.array([describe(weights.embedding)], MATRIX),
        unembedding=np.array([describe(weights.unembedding)], MATRIX),
        matrices=matrices,
        norms=_norms(config, weights),
        final_norm=_padded_vector(weights.final_norm, padded(config.hidden_size)),
        qkv_bias=_qkv_bias(config, weights, matrices),
        head_norms=_head_norms(config, weights),
        windows=np.array([layer.window for layer in config.layers], np.int64),
        ropes=ropes,
        cos=cos,
        sin=sin,
    )


def _layer_matrices(layer: PackedLayer) -> list[tuple[int, ...]]:
    """In the order of `state.Q` to `state.DOWN`, those that share a row of results beside each other."""
    k = padded(layer.q.outputs, LANES)
    v = k + padded(layer.k.outputs, LANES)
    return [
        describe(layer.q),
        describe(layer.k, k),
        describe(layer.v, v),
        describe(layer.output),
        describe(layer.gate),
        describe(layer.up, padded(layer.gate.outputs)),
        describe(layer.down),
    ]


def _padded_vector(values: Floats, size: int) -> Floats:
    return np.pad(np.asarray(values, np.float32), (0, size - len(values)))


def _norms(config: LlamaConfig, weights: PackedWeights) -> Floats:
    """In the order of `state.ATTENTION` to `state.POST_FFN`; zeros for those that the model has not."""
    # -> [layers, 4, hidden, padded]
    norms = np.zeros((config.n_layers, 4, padded(config.hidden_size)), np.float32)
    for index, layer in enumerate(weights.layers):
        own = (layer.attention_norm, layer.post_attention_norm, layer.ffn_norm, layer.post_ffn_norm)
        for number, norm in enumerate(own):
            if norm is not None:
                norms[index, number, : config.hidden_size] = norm
    return norms


def _qkv_bias(config: LlamaConfig, weights: PackedWeights, matrices: Matrices) -> Floats:
    # -> [layers or 0, width of qkv]
    q, k = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    ends = matrices[:, 2]["column"] + matrices[:, 2]["tiles"] * LANES
    biases = np.zeros((config.n_layers if config.qkv_bias else 0, ends[0]), np.float32)
    for index in range(len(biases)):
        parts = np.split(np.asarray(weights.layers[index].qkv_bias), [q, q + k])
        for part, column in zip(parts, matrices[index, :3]["column"], strict=True):
            biases[index, column : column + len(part)] = part
    return biases


def _head_norms(config: LlamaConfig, weights: PackedWeights) -> Floats:
    """Of queries and of keys, all heads of either alike."""
    # -> [layers or 0, 2, head_dim, padded]
    width = padded(config.head_dim, LANES)
    norms = np.zeros((config.n_layers if config.qk_norm else 0, 2, width), np.float32)
    for index in range(len(norms)):
        heads = np.asarray(weights.layers[index].qk_norm)
        norms[index, :, : config.head_dim] = heads[0], heads[-1]
    return norms


def _rotations(config: LlamaConfig, weights: PackedWeights) -> tuple[Floats, Floats, Counts]:
    """Cosines and sines of all positions for each rotation that a layer has; float64 first."""
    # -> [rotations, context, head_dim / 2] twice, [layers]
    kinds = list(dict.fromkeys(layer.rope for layer in config.layers))
    ropes = [kinds.index(layer.rope) for layer in config.layers]
    shape = (len(kinds), config.context_length, config.head_dim // 2)
    cos, sin = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for number, rope in enumerate(kinds):
        frequencies = weights.layers[ropes.index(number)].frequencies
        for start in range(0, config.context_length, 1024):
            angles = np.arange(start, min(start + 1024, config.context_length))[:, None] * frequencies
            here = slice(start, start + len(angles))
            cos[number, here] = np.cos(angles) * rope.magnitude
            sin[number, here] = np.sin(angles) * rope.magnitude
    return cos, sin, np.array(ropes, np.int64)
