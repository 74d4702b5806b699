"""The array functions against the same formulas written as loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from realm_reference.compute.cuda import cupy_arrays
from realm_reference.compute.numpy import (
    causal_attention,
    gelu,
    numpy_arrays,
    rms_norm,
    rotate,
    silu,
    softmax,
)

_ORACLE = numpy_arrays("float64")
_DRAW = np.random.default_rng(11)


def _random(*shape: int) -> NDArray[np.float64]:
    return _DRAW.standard_normal(shape)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_silu_is_finite_everywhere(x: float) -> None:
    value = float(silu(numpy_arrays(), np.array([[x]], np.float32))[0, 0])
    assert math.isfinite(value)
    exact = x / (1 + math.exp(-x)) if abs(x) < 80 else max(x, 0.0)
    assert value == pytest.approx(exact, rel=1e-5, abs=1e-30)


def test_rms_norm() -> None:
    x, weight = _random(3, 8), _random(8)
    for row, normed in zip(x, rms_norm(_ORACLE, x, weight, 0.1), strict=True):
        scale = math.sqrt(sum(v * v for v in row) / 8 + 0.1)
        np.testing.assert_allclose(normed, [v / scale * w for v, w in zip(row, weight, strict=True)])


def test_softmax_of_large_and_excluded_scores() -> None:
    rows = softmax(_ORACLE, np.array([[1000.0, 1000.0, -np.inf], [0.0, math.log(3), -np.inf]]))
    np.testing.assert_allclose(rows, [[0.5, 0.5, 0], [0.25, 0.75, 0]])


def test_rotation_keeps_lengths_and_depends_on_distance_alone() -> None:
    q, k = _random(1, 2, 6), _random(1, 2, 6)

    def turned(x: NDArray[np.float64], position: int) -> NDArray[np.float64]:
        angles = position * np.array([1.0, 0.3, 0.07])[None, None, :]
        turned_x: NDArray[np.float64] = rotate(_ORACLE, x, np.cos(angles), np.sin(angles))
        return turned_x

    np.testing.assert_allclose(np.linalg.norm(turned(q, 5), axis=-1), np.linalg.norm(q, axis=-1))
    near, far = ((turned(q, a) * turned(k, b)).sum(axis=-1) for a, b in ((9, 4), (1009, 1004)))
    np.testing.assert_allclose(near, far)
    assert np.abs(near - (turned(q, 9) * turned(k, 5)).sum(axis=-1)).max() > 1e-3


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_gelu_is_finite_everywhere(x: float) -> None:
    value = float(gelu(numpy_arrays(), np.array([[x]], np.float32))[0, 0])
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3) if abs(x) < 10 else math.copysign(40, x)
    assert value == pytest.approx(0.5 * x * (1 + math.tanh(inner)), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("window", [0, 1, 2, 5, 7])
@pytest.mark.parametrize(("n_seq", "n_key"), [(1, 1), (1, 7), (4, 4), (3, 7)])
def test_attention_reads_its_group_and_window_and_never_the_future(
    n_seq: int, n_key: int, window: int
) -> None:
    n_head, n_kv, d, scale = 6, 2, 4, 0.3
    q, k, v = _random(n_seq, n_head, d), _random(n_kv, n_key, d), _random(n_kv, n_key, d)
    mixed = causal_attention(_ORACLE, q, k, v, scale, window).reshape(n_seq, n_head, d)
    for row in range(n_seq):
        seen = n_key - n_seq + row + 1
        visible = range(max(0, seen - window) if window else 0, seen)
        for head in range(n_head):
            group = head // (n_head // n_kv)
            scores = np.array([q[row, head] @ k[group, i] * scale for i in visible])
            weights = np.exp(scores) / np.exp(scores).sum()
            np.testing.assert_allclose(mixed[row, head], weights @ v[group, visible])


def test_another_precision_is_refused() -> None:
    for factory in (numpy_arrays, cupy_arrays):
        with pytest.raises(ValueError, match="float32 or float64, not 'float16'"):
            factory("float16")
