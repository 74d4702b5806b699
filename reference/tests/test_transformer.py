"""However a sequence is cut, rolled back or forked, and whatever runs the arrays, its logits are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from realm_reference.compute.numpy import Arrays, numpy_arrays
from realm_reference.model.config import LlamaConfig
from realm_reference.model.gguf import open_gguf
from realm_reference.model.transformer import KVCache, Transformer
from realm_reference.model.weights import load_weights

# Float32 rounds differently when a product has other shapes; logits are of order 10, one part in 10**6 of
# that.
_TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
_IDS = [int(i) for i in np.random.default_rng(3).integers(0, 266, 300)]


def _transformer(path: Path, arrays: Arrays) -> Transformer:
    file = open_gguf(path)
    config = LlamaConfig.from_gguf(file)
    return Transformer(config, load_weights(file, config, arrays), arrays)


@pytest.fixture(scope="module", params=["float32", "float64"])
def model(request: pytest.FixtureRequest, tiny_gguf: Path) -> Transformer:
    return _transformer(tiny_gguf, numpy_arrays(request.param))


def _close(model: Transformer, one: NDArray[Any], other: NDArray[Any]) -> None:
    np.testing.assert_allclose(one, other, rtol=0, atol=_TOLERANCE[np.dtype(model.arrays.dtype).name])


def _whole(model: Transformer, ids: list[int] = _IDS) -> NDArray[Any]:
    logits: NDArray[Any] = model.forward(ids, model.new_cache(), rows=len(ids))
    return logits


@pytest.mark.parametrize("size", [1, 8, 64, 299])
def test_chunks_give_the_same_logits(model: Transformer, size: int) -> None:
    cache = model.new_cache()
    chunks = [_IDS[i : i + size] for i in range(0, len(_IDS), size)]
    logits = np.concatenate([model.forward(chunk, cache, rows=len(chunk)) for chunk in chunks])
    assert cache.length == len(_IDS)
    _close(model, logits, _whole(model))


def test_a_prompt_beyond_the_inner_chunk_gives_the_same_logits(model: Transformer) -> None:
    ids = (_IDS * 3)[:640]  # the whole context; more than the 512 positions that run at once
    _close(model, _whole(model, ids)[:300], _whole(model))
    cache = model.new_cache()
    model.forward(ids[:639], cache)
    _close(model, model.forward(ids[639:], cache), _whole(model, ids)[639:])


@given(cuts=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40)), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_rolling_back_and_replaying_gives_the_same_logits(
    model: Transformer, cuts: list[tuple[int, int]]
) -> None:
    """Each step appends so many tokens of the sequence, then takes so many back."""
    cache = model.new_cache()
    for forward, back in cuts:
        model.forward(_IDS[cache.length : cache.length + forward], cache)
        cache.truncate(max(0, cache.length - back))
    rest = _IDS[cache.length : 200]
    if rest:
        _close(model, model.forward(rest, cache, rows=len(rest)), _whole(model)[200 - len(rest) : 200])


def test_a_fork_is_independent(model: Transformer) -> None:
    cache = model.new_cache()
    model.forward(_IDS[:50], cache)
    fork = cache.copy()
    model.forward(_IDS[:30], fork)
    assert (cache.length, fork.length) == (50, 80)
    _close(model, model.forward(_IDS[50:60], cache, rows=10), _whole(model)[50:60])


def test_the_layers_by_hand_are_the_forward(model: Transformer) -> None:
    cache = model.new_cache()
    for position in range(0, 24, 8):
        x = model.embed(_IDS[position : position + 8])
        for index in range(model.config.n_layers):
            x = model.layer(index, x, cache, position)
        _close(model, model.logits(x), _whole(model)[position : position + 8])


def test_a_layer_goes_back_to_a_position_and_refuses_a_gap(model: Transformer) -> None:
    cache = model.new_cache()
    x = model.embed(_IDS[:8])
    with pytest.raises(ValueError, match="position 1 leaves a gap"):
        model.layer(0, x, cache, 1)
    first = model.layer(0, x, cache, 0)
    assert cache.length == 0, "the second layer has seen nothing yet"
    model.layer(0, x, cache, 8)
    _close(model, model.layer(0, x, cache, 0), first)
    with pytest.raises(ValueError, match="leaves a gap"):
        model.layer(0, x, cache, 9)
    with pytest.raises(ValueError, match="position 640 is beyond the context of 640"):
        model.layer(1, model.embed([7] * 641), cache, 0)
    with pytest.raises(ValueError, match="layer 2 does not exist"):
        model.layer(2, x, cache, 0)


def test_positions_matter(model: Transformer) -> None:
    same = model.forward([7] * 6, model.new_cache(), rows=6)
    _close(model, same[0], same[5])  # attention over equal values is that value, wherever it stands
    mixed = _whole(model, [7, 9, 9, 7])
    swapped = _whole(model, [9, 7, 9, 7])
    assert np.abs(mixed[3] - swapped[3]).max() > 1e-3


@pytest.mark.parametrize("ids", [[-1], [266], [0, 2**40]])
def test_an_unknown_id_is_refused(model: Transformer, ids: list[int]) -> None:
    cache = model.new_cache()
    with pytest.raises(ValueError, match="token ids must lie in 0 to 265"):
        model.forward(ids, cache)
    assert cache.length == 0


def test_rows_and_context_are_checked_before_anything_runs(model: Transformer) -> None:
    cache = model.new_cache()
    with pytest.raises(ValueError, match="3 rows"):
        model.forward([1, 2], cache, rows=3)
    model.forward((_IDS * 3)[:640], cache)
    with pytest.raises(ValueError, match="641 positions exceed the context of 640"):
        model.forward([1], cache)
    assert cache.length == 640
    assert model.forward([], cache, rows=0).shape == (0, 266)


def test_the_cache_refuses_lengths_that_it_does_not_have(model: Transformer) -> None:
    cache: KVCache = model.new_cache()
    model.forward(_IDS[:5], cache)
    for length in (-1, 6):
        with pytest.raises(ValueError, match="cannot truncate 5 positions"):
            cache.truncate(length)


def test_float32_is_near_the_oracle(tiny_gguf: Path) -> None:
    truth, oracle = (_whole(_transformer(tiny_gguf, numpy_arrays(kind))) for kind in ("float32", "float64"))
    assert oracle.dtype == np.float64
    assert truth.dtype == np.float32
    np.testing.assert_allclose(truth, oracle, rtol=0, atol=_TOLERANCE["float32"])


def test_nothing_but_the_array_api_standard_is_used(tiny_gguf: Path) -> None:
    # Arrays of another device than the default one: as on a GPU, none may meet an array of the host's.
    strict = _transformer(
        tiny_gguf, Arrays(array_api_strict, array_api_strict.float32, array_api_strict.Device("device1"))
    )
    cache = strict.new_cache()
    parts = [strict.forward(_IDS[:40], cache, rows=40), strict.forward(_IDS[40:41], cache)]
    logits = np.concatenate([strict.arrays.to_numpy(part) for part in parts])
    plain = _whole(_transformer(tiny_gguf, numpy_arrays()), _IDS[:41])
    np.testing.assert_allclose(logits, plain, rtol=0, atol=_TOLERANCE["float32"])


def test_a_gpu_runs_the_same_lines(gpu_arrays: Arrays, tiny_gguf: Path) -> None:
    device = _transformer(tiny_gguf, gpu_arrays)
    logits = device.arrays.to_numpy(device.forward(_IDS, device.new_cache(), rows=len(_IDS)))
    plain = _whole(_transformer(tiny_gguf, numpy_arrays()))
    np.testing.assert_allclose(logits, plain, rtol=0, atol=1e-4)


def test_position_scaling_is_applied(tiny_gguf: Path, make_gguf: Callable[..., Path]) -> None:
    """Linear scaling by 2 and frequency factors of 2 are the same thing, and are not nothing."""
    factors = {"rope_freqs.weight": np.full(4, 2.0, np.float32)}
    linear = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}
    scaled = _whole(_transformer(make_gguf(tensors=factors), numpy_arrays()))
    np.testing.assert_array_equal(scaled, _whole(_transformer(make_gguf(linear), numpy_arrays())))
    assert np.abs(scaled - _whole(_transformer(tiny_gguf, numpy_arrays()))).max() > 0.1


def test_an_output_matrix_of_its_own_is_used(tiny_gguf: Path, make_gguf: Callable[..., Path]) -> None:
    embedding = open_gguf(tiny_gguf).tensor("token_embd.weight")
    untied = _transformer(make_gguf(tensors={"output.weight": embedding * 2}), numpy_arrays())
    np.testing.assert_array_equal(_whole(untied), _whole(_transformer(tiny_gguf, numpy_arrays())) * 2)
