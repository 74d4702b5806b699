"""The plain runner is the transformer on pages, wherever its arrays are."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import array_api_strict
import numpy as np
import pytest
from numpy.typing import NDArray
from realm_reference.compute.numpy import Arrays, numpy_arrays
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.config import LlamaConfig
from realm_reference.model.gguf import open_gguf
from realm_reference.model.runner import PAGE, Chunk
from realm_reference.model.transformer import Transformer
from realm_reference.model.weights import load_weights

_IDS = np.random.default_rng(3).integers(0, 266, 60).astype(np.int32)
_CUTS = [0, 7, 24, 25, 60]
_MINE, _OTHERS = [5, 2, 9, 0], [7, 1, 4, 8]
_TOLERANCE = 1e-4


def _transformer(path: Path, arrays: Arrays) -> Transformer:
    file = open_gguf(path)
    config = LlamaConfig.from_gguf(file)
    return Transformer(config, load_weights(file, config, arrays), arrays)


@pytest.fixture(scope="module", params=["numpy", "strict", "gpu"])
def runner(request: pytest.FixtureRequest, tiny_gguf: Path) -> ArrayRunner:
    """With room for ten pages. "strict" is the standard itself, on a device that the host cannot reach."""
    if request.param == "gpu":
        arrays: Arrays = request.getfixturevalue("gpu_arrays")
    elif request.param == "strict":
        device = array_api_strict.Device("device1")
        arrays = Arrays(array_api_strict, array_api_strict.float32, device)
    else:
        arrays = numpy_arrays()
    runner = ArrayRunner(_transformer(tiny_gguf, arrays))
    runner.reserve(10)
    return runner


def _chunk(begin: int, end: int, pages: list[int]) -> Chunk:
    held = np.array(pages[: -(-end // PAGE)], np.int32)
    return Chunk(_IDS[begin:end], begin, held, rows=end - begin)


def _run(runner: ArrayRunner, pages: list[int]) -> NDArray[np.float32]:
    parts = [runner.step([_chunk(a, b, pages)]) for a, b in pairwise(_CUTS)]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def truth(tiny_gguf: Path) -> NDArray[np.float32]:
    plain = _transformer(tiny_gguf, numpy_arrays())
    logits: NDArray[np.float32] = plain.forward(_IDS, plain.new_cache(), rows=len(_IDS))
    return logits


def test_steps_on_scattered_pages_are_the_truth(runner: ArrayRunner, truth: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(_run(runner, _MINE), truth, rtol=0, atol=_TOLERANCE)


def test_the_same_cuts_give_the_same_bits_beside_others(runner: ArrayRunner) -> None:
    alone = _run(runner, _MINE)
    both = [runner.step([_chunk(a, b, _OTHERS), _chunk(a, b, _MINE)]) for a, b in pairwise(_CUTS)]
    beside = np.concatenate([step[len(step) // 2 :] for step in both])
    np.testing.assert_array_equal(beside, alone)


def test_a_copied_page_is_the_page(runner: ArrayRunner) -> None:
    expected = _run(runner, _MINE)[-1:]
    last = _chunk(59, 60, _MINE)
    runner.copy_page(_MINE[3], 6)
    forked = Chunk(last.ids, 59, np.array([*_MINE[:3], 6], np.int32), rows=1)
    np.testing.assert_array_equal(runner.step([forked]), runner.step([last]))
    np.testing.assert_allclose(runner.step([last]), expected, rtol=0, atol=_TOLERANCE)


def test_the_layers_one_by_one_are_the_step(runner: ArrayRunner, truth: NDArray[np.float32]) -> None:
    pages, hidden = np.array(_OTHERS, np.int32), runner.embed(_IDS)
    for index in range(runner.config.n_layers):
        hidden = runner.layer(index, hidden, 0, pages)
    np.testing.assert_allclose(runner.logits(hidden), truth, rtol=0, atol=_TOLERANCE)
