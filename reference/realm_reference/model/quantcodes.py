"""What a GGUF encoding says, as whole numbers with scales: the codes themselves, not their products.

A matrix product on codes reads a quarter (or an eighth) of the memory that one on float32 reads. Nothing is
rounded here: `Codes.values` gives the bits that the gguf library's own dequantisation gives.

Source of the encodings: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h (the blocks) and
`gguf.quants` (what they mean).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from realm_reference.compute.jit.packing import Codes

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def decode(raw: Bytes, kind: GGMLQuantizationType) -> Codes | None:
    """The codes of a tensor's rows [rows, bytes of a row]; None for an encoding that is not made of them."""
    if kind not in _DECODERS:
        return None
    rows, block_bytes = raw.shape[0], GGML_QUANT_SIZES[kind][1]
    return _DECODERS[kind](raw.reshape(rows, -1, block_bytes))


def _halves(blocks: Bytes, begin: int) -> Floats:
    """The float16 at byte `begin` of each block."""
    # [rows, n, bytes] -> [rows, n]
    return np.ascontiguousarray(blocks[..., begin : begin + 2]).view(np.float16)[..., 0].astype(np.float32)


def _flat(codes: NDArray[np.generic]) -> NDArray[np.int8]:
    # [rows, n, ...] -> [rows, columns]
    return codes.reshape(codes.shape[0], -1).astype(np.int8)


def _nibbles(packed: Bytes) -> Bytes:
    """The low halves of a block's bytes are its first codes, the high halves its last."""
    # [..., bytes] -> [..., 2 * bytes]
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _q4_0(blocks: Bytes) -> Codes:
    scale = _halves(blocks, 0)  # values are scale * (code - 8); both products are exact
    return Codes(_flat(_nibbles(blocks[..., 2:])), scale, -8 * scale)


def _q4_1(blocks: Bytes) -> Codes:
    return Codes(_flat(_nibbles(blocks[..., 4:])), _halves(blocks, 0), _halves(blocks, 2))


def _q5_0(blocks: Bytes) -> Codes:
    fifth = np.unpackbits(blocks[..., 2:6], axis=-1, bitorder="little")
    codes = (_nibbles(blocks[..., 6:]) | fifth << 4).astype(np.int8) - np.int8(16)
    return Codes(_flat(codes), _halves(blocks, 0))


def _q8_0(blocks: Bytes) -> Codes:
    return Codes(_flat(blocks[..., 2:].view(np.int8)), _halves(blocks, 0))


def _q4_k(blocks: Bytes) -> Codes:
    rows, n, _ = blocks.shape
    quarters, first = blocks[..., 16:].reshape(rows, n, 4, 32), blocks[..., 4:16]
    low, high, mixed = first[..., :4], first[..., 4:8], first[..., 8:]  # of 6 bits: see Q4_K of gguf.quants
    scales = np.concatenate([low & 63, (mixed & 15) | (low >> 2 & 48)], axis=-1)
    minima = np.concatenate([high & 63, (mixed >> 4) | (high >> 2 & 48)], axis=-1)
    scale = _halves(blocks, 0)[..., None] * scales.astype(np.float32)
    minimum = _halves(blocks, 2)[..., None] * minima.astype(np.float32)
    return Codes(_flat(_nibbles(quarters)), scale.reshape(rows, -1), -minimum.reshape(rows, -1))


def _q6_k(blocks: Bytes) -> Codes:
    rows, n, _ = blocks.shape
    low = _nibbles(blocks[..., :128].reshape(rows, n, 2, 64)).reshape(rows, n, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high = blocks[..., 128:192].reshape(rows, n, 2, 1, 32) >> shifts & 3
    codes = (low | high << 4).astype(np.int8) - np.int8(32)
    scale = _halves(blocks, 208)[..., None] * blocks[..., 192:208].view(np.int8).astype(np.float32)
    return Codes(_flat(codes), scale.reshape(rows, -1))


_DECODERS: Final[dict[GGMLQuantizationType, Callable[[Bytes], Codes]]] = {
    GGMLQuantizationType.Q4_0: _q4_0,
    GGMLQuantizationType.Q4_1: _q4_1,
    GGMLQuantizationType.Q4_K: _q4_k,
    GGMLQuantizationType.Q5_0: _q5_0,
    GGMLQuantizationType.Q6_K: _q6_k,
    GGMLQuantizationType.Q8_0: _q8_0,
}

CODED: Final = frozenset(_DECODERS)
"""The encodings that are made of codes."""
