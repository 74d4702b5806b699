"""The models agree with Hugging Face transformers: `ci/make_goldens.py` and `ci/make_family_goldens.py` made
the data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from realm_reference.compute.numpy import Arrays
from realm_reference.model.compute import Compute
from realm_reference.model.config import LlamaConfig
from realm_reference.model.gguf import open_gguf
from realm_reference.model.model import Model, load_model
from realm_reference.model.transformer import Transformer
from realm_reference.model.weights import load_weights

_DATA = Path(__file__).parent / "data"
_TOLERANCE = 1e-3  # of a logit, against transformers; both are float32, and differ by 2.6e-4 at most
_ROUNDING = 5e-4  # between two float32 runs that add in another order; 1.2e-4 was seen
_PROMPTS = ["one-token", "two-tokens", "short", "chat", "emoji", "json", "cjk", "code", "repetition", "prose"]
_FAMILY = ["llama3-factors", "qwen2", "qwen2-yarn", "qwen3", "gemma3"]
_FAMILY_TOLERANCE = 1e-4
_GEMMA_PROMPTS = ["one-token", "emoji", "json", "cjk", "code", "prose"]

Goldens = dict[str, NDArray[Any]]


def _goldens(name: str) -> Goldens:
    with np.load(_DATA / name) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.fixture(scope="module")
def goldens() -> Goldens:
    return _goldens("logits.npz")


@pytest.fixture(scope="module")
def family() -> Goldens:
    return _goldens("family.npz")


@pytest.fixture(scope="module")
def gemma3_goldens() -> Goldens:
    return _goldens("gemma3.npz")


@pytest.fixture(scope="module")
def gemma3(gemma3_path: Path) -> Model:
    return load_model(gemma3_path)


@pytest.fixture(scope="module")
def smollm2_on_gpu(gpu_arrays: Arrays, smollm2_path: Path) -> Transformer:
    return _transformer(smollm2_path, gpu_arrays)


def _transformer(path: Path, arrays: Arrays) -> Transformer:
    file = open_gguf(path)
    config = LlamaConfig.from_gguf(file)
    return Transformer(config, load_weights(file, config, arrays), arrays)


def _all_logits(model: Model, ids: list[int]) -> NDArray[Any]:
    logits: NDArray[Any] = model.transformer.forward(ids, model.transformer.new_cache(), rows=len(ids))
    return logits


def _part(goldens: Goldens, prompt: str) -> Goldens:
    return {key.split("/")[1]: goldens[key] for key in goldens if key.startswith(f"{prompt}/")}


def _agrees(transformer: Transformer, goldens: Goldens, prompt: str, tolerance: float = _TOLERANCE) -> None:
    """The logits of the prompt's last positions, as many as were kept, are those of the goldens."""
    part = _part(goldens, prompt)
    ids, top = [int(i) for i in part["ids"]], part["top"].astype(np.int64)
    logits = transformer.arrays.to_numpy(transformer.forward(ids, transformer.new_cache(), rows=len(top)))
    ours = np.take_along_axis(logits, top, axis=-1)
    np.testing.assert_allclose(ours, part["top_logits"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        logits[:, goldens["columns"].astype(np.int64)], part["logits"], rtol=0, atol=tolerance
    )
    # The log of the sum of exponentials covers every column, those that are not stored as well.
    highest = logits.max(axis=-1, keepdims=True).astype(np.float64)
    spread = np.log(np.exp(logits - highest).sum(axis=-1)) + highest[:, 0]
    np.testing.assert_allclose(spread, part["logsumexp"], rtol=0, atol=tolerance)
    clear = part["top_logits"][:, 0] - part["top_logits"][:, 1] > tolerance
    assert clear.any()
    np.testing.assert_array_equal(logits.argmax(axis=-1)[clear], top[clear, 0])


def _greedy_is_identical(transformer: Transformer, goldens: Goldens, count: int) -> None:
    cache, chunk = transformer.new_cache(), [int(i) for i in goldens["greedy/prompt"]]
    expected = [int(i) for i in goldens["greedy/tokens"]]
    assert len(expected) == count
    for position, token in enumerate(expected):
        best = int(transformer.forward(chunk, cache)[-1].argmax())
        assert best == token, f"greedy token {position} differs"
        chunk = [token]


def _is_of(goldens: Goldens, path: Path) -> bool:
    made_of: str = json.loads(str(goldens["about"]))["sha256"]
    return made_of == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_goldens_are_of_this_file(goldens: Goldens, smollm2_path: Path) -> None:
    assert _is_of(goldens, smollm2_path)
    assert {name.split("/")[0] for name in goldens if name.endswith("/top")} == set(_PROMPTS)
    assert max(len(goldens[f"{name}/ids"]) for name in _PROMPTS) == 512


@pytest.mark.parametrize("prompt", _PROMPTS)
def test_every_position_agrees(goldens: Goldens, smollm2: Model, prompt: str) -> None:
    _agrees(smollm2.transformer, goldens, prompt)
    assert len(goldens[f"{prompt}/top"]) == len(goldens[f"{prompt}/ids"])


@pytest.mark.parametrize("prompt", _PROMPTS)
def test_every_position_agrees_on_a_gpu(goldens: Goldens, smollm2_on_gpu: Transformer, prompt: str) -> None:
    _agrees(smollm2_on_gpu, goldens, prompt)


def test_256_greedy_tokens_are_identical(goldens: Goldens, smollm2: Model) -> None:
    _greedy_is_identical(smollm2.transformer, goldens, 256)


@pytest.mark.parametrize("variant", _FAMILY)
def test_a_tiny_model_of_each_variant_agrees(
    family: Goldens, make_gguf: Callable[..., Path], arrays: Arrays, variant: str
) -> None:
    """Random weights of the family's architectures: biases, QK norms, post norms, windows and what else."""
    tensors = {
        key.removeprefix(f"{variant}/tensors/"): values
        for key, values in family.items()
        if key.startswith(f"{variant}/tensors/")
    }
    transformer = _transformer(make_gguf(json.loads(str(family[f"{variant}/metadata"])), tensors), arrays)
    _agrees(transformer, family, variant, _FAMILY_TOLERANCE)
    ids = [int(i) for i in family[f"{variant}/ids"]]
    whole = transformer.arrays.to_numpy(transformer.forward(ids, transformer.new_cache(), rows=len(ids)))
    for size in (1, 5):  # chunks that begin within a window, and behind one
        cache, chunks = transformer.new_cache(), [ids[i : i + size] for i in range(0, len(ids), size)]
        parts = [arrays.to_numpy(transformer.forward(c, cache, rows=len(c))) for c in chunks]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=_FAMILY_TOLERANCE)


def test_gemma3_goldens_are_of_this_file(gemma3_goldens: Goldens, gemma3_path: Path) -> None:
    assert _is_of(gemma3_goldens, gemma3_path)
    assert {name.split("/")[0] for name in gemma3_goldens if name.endswith("/top")} == set(_GEMMA_PROMPTS)
    assert max(len(gemma3_goldens[f"{name}/ids"]) for name in _GEMMA_PROMPTS) > 512, "beyond its window"


@pytest.mark.parametrize("prompt", _GEMMA_PROMPTS)
def test_gemma3_agrees(gemma3_goldens: Goldens, gemma3: Model, prompt: str) -> None:
    _agrees(gemma3.transformer, gemma3_goldens, prompt)


def test_64_greedy_tokens_of_gemma3_are_identical(gemma3_goldens: Goldens, gemma3: Model) -> None:
    _greedy_is_identical(gemma3.transformer, gemma3_goldens, 64)


def test_chunks_and_a_replay_agree_on_the_real_model(goldens: Any, smollm2: Model) -> None:
    ids = [int(i) for i in goldens["prose/ids"]][:72]
    whole = _all_logits(smollm2, ids)
    for size in (1, 8, 64):
        cache = smollm2.transformer.new_cache()
        smollm2.transformer.forward(ids[:40], cache)
        cache.truncate(7)  # positions 7 to 39 are rolled back and replayed
        parts = [
            smollm2.transformer.forward(ids[i : i + size], cache, rows=len(ids[i : i + size]))
            for i in range(7, 72, size)
        ]
        np.testing.assert_allclose(np.concatenate(parts), whole[7:], rtol=0, atol=_ROUNDING)


def test_float32_is_near_the_oracle(goldens: Any, smollm2: Model, smollm2_path: Path) -> None:
    ids = [int(i) for i in goldens["chat/ids"]]
    oracle = _all_logits(load_model(smollm2_path, Compute(precision="float64")), ids)
    np.testing.assert_allclose(_all_logits(smollm2, ids), oracle, rtol=0, atol=_ROUNDING)
    stored = goldens["chat/top_logits"]
    ours = np.take_along_axis(oracle, goldens["chat/top"].astype(np.int64), axis=-1)
    np.testing.assert_allclose(ours, stored, rtol=0, atol=_TOLERANCE)
