"""Functions on vectors and on rows of float32: exponential, activations, norms, sums of blocks.

Own formulas with a fixed order of operations, because those of a libm or of NumPy differ between machines.
Rows are addressed by their first byte; lengths are counts of numbers.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from realm_reference.compute.jit import simd as v
from realm_reference.compute.jit.compiled import compiled, inlined
from realm_reference.compute.jit.layout import BLOCK
from realm_reference.compute.jit.matrix import VECTOR

F32: Final = np.float32

# Cephes' expf (https://www.netlib.org/cephes/): 2**n times a polynomial on half a power of two to each side.
_LOG2_E, _LN2_HIGH, _LN2_LOW = F32(1.44269504), F32(-0.693359375), F32(2.12194440e-4)
_P0, _P1, _P2 = F32(1.9875691500e-4), F32(1.3981999507e-3), F32(8.3334519073e-3)
_P3, _P4, _P5 = F32(4.1665795894e-2), F32(1.6666665459e-1), F32(5.0000001201e-1)
_LOWEST, _HIGHEST = F32(-87.3), F32(88.0)
_ONE = F32(1)
_GELU_LINEAR, _GELU_CUBIC = F32(2 * (2 / np.pi) ** 0.5), F32(2 * (2 / np.pi) ** 0.5 * 0.044715)


@inlined
def exponential(x: v.Vector) -> v.Vector:
    """e**x to about one unit in the last place; exactly 0 below -87.3, and from 88 on what it is there."""
    near = v.minimum(v.maximum(x, v.splat(_LOWEST)), v.splat(_HIGHEST))
    n = v.nearest(v.multiply(near, v.splat(_LOG2_E)))
    r = v.multiply_add(n, v.splat(_LN2_LOW), v.multiply_add(n, v.splat(_LN2_HIGH), near))
    p = v.multiply_add(v.splat(_P0), r, v.splat(_P1))
    p = v.multiply_add(p, r, v.splat(_P2))
    p = v.multiply_add(p, r, v.splat(_P3))
    p = v.multiply_add(p, r, v.splat(_P4))
    p = v.multiply_add(p, r, v.splat(_P5))
    p = v.add(v.multiply_add(p, v.multiply(r, r), r), v.splat(_ONE))
    return v.where_less(x, v.splat(_LOWEST), v.zero(), v.multiply(p, v.power_of_two(n)))


@inlined
def silu(x: v.Vector) -> v.Vector:
    """x * sigmoid(x) (https://arxiv.org/abs/1702.03118)."""
    return v.divide(x, v.add(v.splat(_ONE), exponential(v.subtract(v.zero(), x))))


@inlined
def gelu(x: v.Vector) -> v.Vector:
    """GELU's approximation by tanh (https://arxiv.org/abs/1606.08415), as x * sigmoid(2u) for 1 + tanh(u)."""
    slope = v.multiply_add(v.splat(_GELU_CUBIC), v.multiply(x, x), v.splat(_GELU_LINEAR))
    return v.divide(x, v.add(v.splat(_ONE), exponential(v.subtract(v.zero(), v.multiply(x, slope)))))


@compiled
def inverse_rms(x: int, count: int, epsilon: float) -> float:
    """One over the root mean square of `count` numbers; zeros follow them up to a whole vector."""
    squares = v.zero()
    for at in range(x, x + 4 * count, VECTOR):
        part = v.load(at)
        squares = v.multiply_add(part, part, squares)
    mean = v.total(squares) / F32(count)
    return float(_ONE / np.sqrt(mean + F32(epsilon)))


@compiled
def norm(x: int, weight: int, count: int, epsilon: float, out: int) -> None:
    """RMS norm (https://arxiv.org/abs/1910.07467); all three are padded with zeros to a whole vector."""
    scale = v.splat(inverse_rms(x, count, epsilon))
    for offset in range(0, 4 * count, VECTOR):
        v.store(out + offset, v.multiply(v.multiply(v.load(x + offset), scale), v.load(weight + offset)))


@compiled
def accumulate(x: int, count: int, out: int) -> None:
    """Add `count` numbers to others, both padded to a whole vector."""
    for offset in range(0, 4 * count, VECTOR):
        v.store(out + offset, v.add(v.load(out + offset), v.load(x + offset)))


@compiled
def sum_blocks(x: int, n_blocks: int, out: int) -> None:
    """The sum of each block of inputs: what a matrix with minimums multiplies them by."""
    for block in range(n_blocks):
        at = x + 4 * BLOCK * block
        v.store_lane(out + 4 * block, v.total(v.add(v.load(at), v.load(at + VECTOR))))
