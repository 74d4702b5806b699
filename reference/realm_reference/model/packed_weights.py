"""The weights of a model in the kernels' layout: from the GGUF file once, from the cache after that.

The codes stay as they are in the file, so nothing is rounded. Encodings that no block type has (the float
types among them) are dequantised to float32, which is exact too, but large: a warning says so.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realm_reference.compute.jit.layout import VERSION, PackedMatrix
from realm_reference.compute.jit.packing import pack
from realm_reference.compute.numpy import numpy_arrays
from realm_reference.model.array_cache import ArrayCache
from realm_reference.model.config import LlamaConfig
from realm_reference.model.gguf import GGUFFile, TensorInfo
from realm_reference.model.quantcodes import CODED, decode
from realm_reference.model.weights import (
    LayerVectors,
    TensorSource,
    layer_matrices,
    load_layer_vectors,
    rope_factors,
    split_pairs,
    vocab_size,
)

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PackedLayer(LayerVectors):
    """One layer; matrices are [outputs, inputs], each with a block type of its own. Vectors are float32."""

    q: PackedMatrix  # [n_heads * head_dim, hidden]
    k: PackedMatrix  # [n_kv_heads * head_dim, hidden]
    v: PackedMatrix  # [n_kv_heads * head_dim, hidden]
    output: PackedMatrix  # [hidden, n_heads * head_dim]
    gate: PackedMatrix  # [intermediate, hidden]
    up: PackedMatrix  # [intermediate, hidden]
    down: PackedMatrix  # [hidden, intermediate]


@dataclass(frozen=True)
class PackedWeights:
    """All weights; `unembedding` is the embedding itself where the file ties them."""

    embedding: PackedMatrix  # [vocab, hidden]
    layers: tuple[PackedLayer, ...]
    final_norm: Floats  # [hidden]
    unembedding: PackedMatrix  # [vocab, hidden]

    @property
    def vocab_size(self) -> int:
        """The number of logits of a position."""
        return self.unembedding.outputs

    @property
    def nbytes(self) -> int:
        """The memory of all matrices: what a step of one token reads, and the embedding if it is not tied."""
        matrices = [getattr(layer, part) for layer in self.layers for part in _PARTS]
        own = [] if self.embedding is self.unembedding else [self.embedding]
        return sum(m.blocks.nbytes for m in (*matrices, *own, self.unembedding))


_PARTS = ("q", "k", "v", "output", "gate", "up", "down")


def load_packed_weights(file: GGUFFile, config: LlamaConfig, cache: ArrayCache | None) -> PackedWeights:
    """Every tensor of the model, packed, through the cache if there is one.

    Raises ModelFileError if one is missing or misshapen, or if the file has a tensor that its architecture
    does not.
    """
    source = TensorSource(file, numpy_arrays())
    tables = [layer_matrices(config, index) for index in range(config.n_layers)]
    factors = rope_factors(source, config)
    vectors = [load_layer_vectors(source, config, index, factors) for index in range(config.n_layers)]
    final_norm = source.vector("output_norm.weight", config.hidden_size)
    shapes = {name: shape for table in tables for name, shape in table.values()}
    embedding = (vocab_size(file), config.hidden_size)
    shapes |= {
        name: embedding
        for name in ("token_embd.weight", "output.weight")
        if name in file.tensors or name == "token_embd.weight"
    }
    infos = [source.claim(name, shape) for name, shape in shapes.items()]
    source.refuse_leftovers(config.architecture)
    _warn_of_floats(infos)
    packed = _packed(file, config, infos, cache)
    return PackedWeights(
        packed["token_embd.weight"],
        tuple(
            PackedLayer(**(vars(own) | {part: packed[name] for part, (name, _) in table.items()}))
            for own, table in zip(vectors, tables, strict=True)
        ),
        final_norm,
        packed.get("output.weight", packed["token_embd.weight"]),
    )


def _packed(
    file: GGUFFile, config: LlamaConfig, infos: list[TensorInfo], cache: ArrayCache | None
) -> dict[str, PackedMatrix]:
    """The matrices by the names of their tensors: mapped from the cache, or made and kept there."""
    key = _key(file)
    if cache is not None and (kept := _fitting(cache.load(key), infos)):
        return kept
    made = {info.name: _pack(file, config, info) for info in infos}
    if cache is not None and cache.save(key, {name: matrix.blocks for name, matrix in made.items()}):
        return _fitting(cache.load(key), infos) or made
    return made


def _fitting(
    arrays: dict[str, NDArray[Any]] | None, infos: list[TensorInfo]
) -> dict[str, PackedMatrix] | None:
    """Arrays as matrices of those shapes; None if there are none, or others."""
    if arrays is None:
        return None
    try:
        return {info.name: PackedMatrix(info.shape[0], info.shape[1], arrays[info.name]) for info in infos}
    except (KeyError, ValueError) as error:
        log.info("the weights are packed again: what is cached does not fit (%s)", error)
        return None


def _key(file: GGUFFile) -> str:
    """Changes with the file (its header, a sample of each tensor, its size and time) and with the layout."""
    found = file.path.stat()
    told = f"{VERSION} {found.st_size} {found.st_mtime_ns}".encode()
    return hashlib.sha256(told + file.sample()).hexdigest()[:32]


def _pack(file: GGUFFile, config: LlamaConfig, info: TensorInfo) -> PackedMatrix:
    matrix = decode(file.encoded(info), info.kind)
    turned = config.interleaved_rope and info.name.endswith(("attn_q.weight", "attn_k.weight"))
    if matrix is None:
        values = file.tensor(info.name)
        return pack(split_pairs(values, config.head_dim) if turned else values)
    if turned:
        rows = np.arange(info.shape[0])
        matrix = matrix.rows(split_pairs(rows[:, None], config.head_dim)[:, 0])
    return pack(matrix)


def _warn_of_floats(infos: list[TensorInfo]) -> None:
    dense: Counter[str] = Counter()
    for info in infos:
        if info.kind not in CODED:
            dense[info.kind.name] += info.shape[0] * info.shape[1]
    if dense:
        log.warning(
            "no packed layout for %s: %.1f M weights are kept as float32, which takes more memory and time; "
            "a file in %s runs faster",
            " and ".join(dense),
            sum(dense.values()) / 1e6,
            ", ".join(sorted(kind.name for kind in CODED)),
        )
