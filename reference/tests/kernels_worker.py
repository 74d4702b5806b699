"""Prints a digest of what the kernel of matrix products gives for codes of every kind. test_jit_kernels.py
runs it as a process of its own, because the instructions that code is compiled to are chosen once.
"""

from __future__ import annotations

import ctypes
import hashlib

import numpy as np
from realm_reference.model.compute import prepare_jit

_ROWS, _OUTPUTS, _INPUTS = 13, 40, 96


def digest() -> str:
    """Of products in float32 and of bytes, with more rows than are computed side by side, and some left."""
    prepare_jit()
    from realm_reference.compute.jit.layout import BLOCK, LANES
    from realm_reference.compute.jit.matrix import IS_DENSE, describe
    from realm_reference.compute.jit.multiply import kernel_address
    from realm_reference.compute.jit.packing import Codes, pack

    draw = np.random.default_rng(1)

    def floats(*shape: int) -> np.ndarray:
        return draw.standard_normal(shape).astype(np.float32)

    def coded(group: int, low: int, high: int, minimum: bool) -> Codes:
        codes = draw.integers(low, high, (_OUTPUTS, _INPUTS)).astype(np.int8)
        scales = floats(_OUTPUTS, _INPUTS // group)
        return Codes(codes, scales, floats(*scales.shape) if minimum else None)

    matrices = [coded(32, 0, 16, True), coded(32, -128, 128, False), coded(16, -128, 128, False)]
    kernel = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 14)(kernel_address())
    told = hashlib.sha256()
    for matrix in (*matrices, floats(_OUTPUTS, _INPUTS)):
        packed = pack(matrix)
        kind, address, tiles, blocks, _, column = describe(packed)
        y = np.zeros((_ROWS, tiles * LANES), np.float32)
        where = (kind, address, blocks, column, 0, tiles)
        x = floats(_ROWS, _INPUTS)
        codes = draw.integers(-127, 128, x.shape).astype(np.int8)
        notes = floats(_ROWS, _INPUTS // BLOCK * 8)
        for int8, rows in [(0, x)] + [(1, codes)] * (kind != IS_DENSE):
            strides = (
                rows.strides[0],
                notes.ctypes.data,
                notes.strides[0],
                _ROWS,
                y.ctypes.data,
                y.strides[0],
            )
            kernel(int8, *where, rows.ctypes.data, *strides)
            told.update(y.tobytes())
    return told.hexdigest()


if __name__ == "__main__":
    print(digest())
