"""How the kernels want a weight matrix to lie in memory.

A kernel computes `LANES` outputs at once, one in each lane of a vector, and walks along their inputs. So a
matrix [outputs, inputs] is cut into tiles of `LANES` outputs, and a tile into blocks of inputs; a block is
one item of a structured array, everything that the kernel needs next in consecutive bytes:

    blocks [n_tiles, n_blocks] of FOUR_BIT, EIGHT_BIT, EIGHT_BIT_HALF or DENSE

The codes of four consecutive inputs ("quad") make up 32 bits of a lane, which is what an int8 dot product
(VNNI) takes, and what shifts and masks turn into floats. Both precisions read the same bytes.

Outputs are padded to whole tiles and inputs to multiples of `BLOCK`, with everything zero in the padding
except eight-bit codes, whose zero is written as 128. Whether it is there or not, a sum has the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

LANES: Final = 16
"""Outputs of a tile; also the 32-bit lanes of a vector."""

BLOCK: Final = 32
"""Inputs are padded to a multiple of this."""

ALIGNMENT: Final = 64
"""Bytes; each block type is a multiple of it, so blocks stay aligned if the first one is."""

VERSION: Final = 1
"""Goes up whenever the bytes of a packed matrix change their meaning: what was cached before is void."""

FOUR_BIT: Final = np.dtype(
    [("codes", "u1", (4, LANES, 4)), ("scales", "<f4", LANES), ("minimums", "<f4", LANES)]
)
"""32 inputs; weight = scale * code + minimum, code 0 to 15.

`codes[q, lane, i]` holds input 4 * q + i in its low half and input 16 + 4 * q + i in its high half.
"""

EIGHT_BIT: Final = np.dtype([("codes", "u1", (8, LANES, 4)), ("scales", "<f4", LANES)])
"""32 inputs; weight = scale * (code - 128). `codes[q, lane, i]` is input 4 * q + i."""

EIGHT_BIT_HALF: Final = np.dtype([("codes", "u1", (4, LANES, 4)), ("scales", "<f4", LANES)])
"""As EIGHT_BIT with 16 inputs to a block, for formats that scale so few (Q6_K)."""

DENSE: Final = np.dtype([("values", "<f4", (BLOCK, LANES))])
"""32 inputs of float32 weights: what no code fits."""

BLOCK_INPUTS: Final = {FOUR_BIT: 32, EIGHT_BIT: 32, EIGHT_BIT_HALF: 16, DENSE: 32}

Blocks: TypeAlias = NDArray[np.void]


@dataclass(frozen=True)
class PackedMatrix:
    """A matrix [outputs, inputs] as `blocks` [n_tiles, n_blocks] of one of the four block types.

    The blocks are contiguous and begin at an address that `ALIGNMENT` divides (a memory-mapped file will do);
    ValueError if they do not fit the shape.
    """

    outputs: int
    inputs: int
    blocks: Blocks

    def __post_init__(self) -> None:
        if self.blocks.dtype not in BLOCK_INPUTS:
            raise ValueError(f"{self.blocks.dtype} is no block type of a packed matrix")
        wanted = packed_shape(self.outputs, self.inputs, self.blocks.dtype)
        if self.blocks.shape != wanted or not self.blocks.flags.c_contiguous:
            raise ValueError(f"blocks of shape {self.blocks.shape} are not {wanted} in consecutive memory")
        if self.blocks.ctypes.data % ALIGNMENT:
            raise ValueError(f"the blocks do not begin at a multiple of {ALIGNMENT} bytes")


def packed_shape(outputs: int, inputs: int, block: np.dtype[Any]) -> tuple[int, int]:
    """The number of tiles and of blocks in each, padding included."""
    return -(-outputs // LANES), -(-inputs // BLOCK) * BLOCK // BLOCK_INPUTS[block]


def aligned_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros that begins at a multiple of `ALIGNMENT`; memory is taken as it is first touched."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
