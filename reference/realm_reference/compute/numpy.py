"""The plain backend: any array namespace that keeps the array API standard, with NumPy as the default.

`Arrays` names the namespace `xp`, the floating type of all arithmetic, and the device. The functions below
use nothing but the standard (https://data-apis.org/array-api/2024.12/), so that NumPy, `array-api-strict`
and CuPy run the same lines. Each function's first comment gives the shapes that go in and come out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any  # of whatever namespace `Arrays.xp` is: the standard has no nominal type


@dataclass(frozen=True)
class Arrays:
    """An array namespace `xp`, the floating `dtype` of all arithmetic (float32 or float64), and a device of
    `xp`'s.
    """

    xp: Any
    dtype: Any
    device: Any = None

    def from_numpy(self, values: NDArray[Any]) -> Array:
        """The same numbers as a floating array of this backend, copied only if they have to be."""
        wanted = np.float64 if self.dtype == self.xp.float64 else np.float32
        return self.xp.asarray(np.ascontiguousarray(values, wanted), device=self.device)

    def integers(self, values: NDArray[Any] | range) -> Array:
        """Indices (token ids, positions) as int64."""
        return self.xp.asarray(np.asarray(values, np.int64), device=self.device)

    def empty(self, shape: tuple[int, ...]) -> Array:
        """An uninitialised floating array."""
        return self.xp.empty(shape, dtype=self.dtype, device=self.device)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """The numbers back on the host; without a copy where they are there already."""
        if hasattr(array, "get"):  # CuPy forbids the implicit transfer that np.from_dlpack would be
            return np.asarray(array.get())
        return np.from_dlpack(array)


def numpy_arrays(dtype: str = "float32") -> Arrays:
    """NumPy in float32, the truth, or in float64, the oracle that bounds float32's own rounding."""
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype is float32 or float64, not {dtype!r}")
    return Arrays(np, np.dtype(dtype).type)


def rms_norm(a: Arrays, x: Array, weight: Array, epsilon: float) -> Array:
    """Scale each row to a root mean square of one, then by `weight` (https://arxiv.org/abs/1910.07467)."""
    # [n_seq, d], [d] -> [n_seq, d]
    return x / a.xp.sqrt(a.xp.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


def silu(a: Arrays, x: Array) -> Array:
    """x * sigmoid(x) (https://arxiv.org/abs/1702.03118); below -80 that is 0, and exp would overflow."""
    # [n_seq, d] -> [n_seq, d]
    x = a.xp.clip(x, -80.0, None)
    return x / (1 + a.xp.exp(-x))


def gelu(a: Arrays, x: Array) -> Array:
    """x times the normal distribution's share below x, in its approximation by tanh
    (https://arxiv.org/abs/1606.08415); beyond 10 that is 0 or x, and the cube would overflow.
    """
    # [n_seq, d] -> [n_seq, d]
    near = a.xp.clip(x, -10.0, 10.0)
    return 0.5 * x * (1 + a.xp.tanh((2 / math.pi) ** 0.5 * near * (1 + 0.044715 * near * near)))


def softmax(a: Arrays, x: Array) -> Array:
    """Each row's exponentials over their sum."""
    # [..., n] -> [..., n]
    e = a.xp.exp(x - a.xp.max(x, axis=-1, keepdims=True))
    return e / a.xp.sum(e, axis=-1, keepdims=True)


def rotate(a: Arrays, x: Array, cos: Array, sin: Array) -> Array:
    """Rotary position embedding; the pair (i, i + d/2) turns by the angle of frequency i
    (https://arxiv.org/abs/2104.09864).
    """
    # [n_seq, n_head, d], [n_seq, 1, d/2] twice -> [n_seq, n_head, d]
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return a.xp.concat([first * cos - second * sin, second * cos + first * sin], axis=-1)


def causal_attention(
    a: Arrays, q: Array, k: Array, v: Array, scale: float | None = None, window: int = 0
) -> Array:
    """Dot-product attention, scaled by `scale` or else d**-0.5; the queries are the LAST n_seq of the n_key
    positions, and see none after their own, nor, with a `window`, more than the last `window` up to it.

    Grouped queries (https://arxiv.org/abs/2305.13245): query head h reads key/value head h // (n_head /
    n_kv). The heads of a group are stacked as rows, so that each key/value head costs one matrix product
    and is never repeated in memory.
    """
    # [n_seq, n_head, d], [n_kv, n_key, d] twice -> [n_seq, n_head * d]
    (n_seq, n_head, d), (n_kv, n_key, _) = q.shape, k.shape
    group = n_head // n_kv
    if window and n_key > n_seq + window - 1:  # what not even the first query sees
        k, v, n_key = k[:, 1 - n_seq - window :, :], v[:, 1 - n_seq - window :, :], n_seq + window - 1
    q = a.xp.reshape(a.xp.permute_dims(q, (1, 0, 2)), (n_kv, group * n_seq, d)) * (scale or d**-0.5)
    scores = q @ a.xp.matrix_transpose(k)  # [n_kv, group * n_seq, n_key]
    if n_seq > 1:
        scores = a.xp.reshape(scores, (n_kv, group, n_seq, n_key))
        last_seen = a.integers(range(n_key - n_seq, n_key))[:, None]
        positions = a.integers(range(n_key))[None, :]
        hidden = positions > last_seen
        if window:
            hidden = hidden | (positions <= last_seen - window)
        scores = a.xp.where(hidden, a.xp.asarray(-a.xp.inf, dtype=a.dtype, device=a.device), scores)
        scores = a.xp.reshape(scores, (n_kv, group * n_seq, n_key))
    mixed = a.xp.reshape(softmax(a, scores) @ v, (n_head, n_seq, d))
    return a.xp.reshape(a.xp.permute_dims(mixed, (1, 0, 2)), (n_seq, n_head * d))
