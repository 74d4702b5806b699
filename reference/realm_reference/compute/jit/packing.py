"""Matrices into the kernels' layout and back. Nothing is rounded on the way: `unpack(pack(codes))` has the
bits of `codes.values()`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realm_reference.compute.jit.layout import (
    BLOCK,
    DENSE,
    EIGHT_BIT,
    EIGHT_BIT_HALF,
    FOUR_BIT,
    LANES,
    PackedMatrix,
    aligned_zeros,
    packed_shape,
)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Codes:
    """A matrix [outputs, inputs]: value[r, c] = scale[r, c // group] * codes[r, c] + minimum[r, c // group].

    Without a `minimum` it is 0, and codes are -128 to 127; with one they are 0 to 15.
    """

    codes: NDArray[np.int8]  # [outputs, inputs]
    scale: Floats  # [outputs, inputs / group]
    minimum: Floats | None = None  # [outputs, inputs / group]

    @property
    def group(self) -> int:
        """Inputs that share a scale."""
        return int(self.codes.shape[1] // self.scale.shape[1])

    def rows(self, order: NDArray[np.int64]) -> Codes:
        """The outputs of those numbers, in their order."""
        return Codes(
            self.codes[order], self.scale[order], None if self.minimum is None else self.minimum[order]
        )

    def values(self) -> Floats:
        """The matrix in float32."""
        # -> [outputs, inputs]
        values = self.codes.astype(np.float32) * np.repeat(self.scale, self.group, axis=1)
        return values if self.minimum is None else values + np.repeat(self.minimum, self.group, axis=1)


def pack(matrix: Codes | Floats) -> PackedMatrix:
    """Codes as four or eight bits each; floats [outputs, inputs] as they are.

    Raises ValueError for codes whose groups no block type has.
    """
    return _pack_codes(matrix) if isinstance(matrix, Codes) else _pack_dense(matrix)


def _pack_codes(matrix: Codes) -> PackedMatrix:
    kinds = {(32, True): FOUR_BIT, (32, False): EIGHT_BIT, (16, False): EIGHT_BIT_HALF}
    kind = kinds.get((matrix.group, matrix.minimum is not None))
    if kind is None:
        raise ValueError(f"no block type has a scale for each {matrix.group} codes")
    (outputs, inputs), group = matrix.codes.shape, matrix.group
    shape = packed_shape(outputs, inputs, kind)
    blocks = aligned_zeros(shape, kind)
    codes = np.zeros((shape[0] * LANES, shape[1] * group), np.uint8)
    codes[:outputs, :inputs] = matrix.codes.view(np.uint8)
    if kind == FOUR_BIT:
        # [tile, lane, block, half, quad, i] -> [tile, block, quad, lane, i]
        halves = codes.reshape(shape[0], LANES, shape[1], 2, 4, 4)
        blocks["codes"] = (halves[:, :, :, 0] | halves[:, :, :, 1] << 4).transpose(0, 2, 3, 1, 4)
    else:
        quads = (codes ^ 128).reshape(shape[0], LANES, shape[1], group // 4, 4)
        blocks["codes"] = quads.transpose(0, 2, 3, 1, 4)
    blocks["scales"] = _lanes(matrix.scale, shape)
    if matrix.minimum is not None:
        blocks["minimums"] = _lanes(matrix.minimum, shape)
    return PackedMatrix(outputs, inputs, blocks)


def _pack_dense(values: Floats) -> PackedMatrix:
    outputs, inputs = values.shape
    tiles, n = shape = packed_shape(outputs, inputs, DENSE)
    padded = np.zeros((tiles * LANES, n * BLOCK), np.float32)
    padded[:outputs, :inputs] = values
    blocks = aligned_zeros(shape, DENSE)
    blocks["values"] = padded.reshape(tiles, LANES, n, BLOCK).transpose(0, 2, 3, 1)
    return PackedMatrix(outputs, inputs, blocks)


def _lanes(numbers: Floats, shape: tuple[int, int]) -> Floats:
    # [outputs, groups] -> [n_tiles, n_blocks, LANES]
    padded = np.zeros((shape[0] * LANES, shape[1]), np.float32)
    padded[: numbers.shape[0], : numbers.shape[1]] = numbers
    return padded.reshape(shape[0], LANES, shape[1]).transpose(0, 2, 1)


def unpack(matrix: PackedMatrix, rows: NDArray[np.integer] | None = None) -> Floats:
    """The matrix in float32, or its outputs of those numbers."""
    # -> [outputs, inputs] or [len(rows), inputs]
    wanted = np.arange(matrix.outputs) if rows is None else rows
    tiles, lanes = np.divmod(wanted, LANES)
    kind, n = matrix.blocks.dtype, matrix.blocks.shape[1]
    if kind == DENSE:
        values = matrix.blocks["values"][tiles, :, :, lanes]  # [rows, n, BLOCK]
        return np.ascontiguousarray(values.reshape(len(wanted), -1)[:, : matrix.inputs])
    codes = matrix.blocks["codes"][tiles, :, :, lanes].reshape(len(wanted), n, -1)  # quads in order
    if kind == FOUR_BIT:
        codes = np.concatenate([codes & 15, codes >> 4], axis=-1)
    else:
        codes = (codes ^ 128).view(np.int8)
    values = codes.astype(np.float32) * matrix.blocks["scales"][tiles, :, lanes][..., None]
    if kind == FOUR_BIT:
        values += matrix.blocks["minimums"][tiles, :, lanes][..., None]
    return np.ascontiguousarray(values.reshape(len(wanted), -1)[:, : matrix.inputs])
