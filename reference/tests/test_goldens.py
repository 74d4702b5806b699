"""SmolLM2-135M agrees with Hugging Face transformers: `ci/make_goldens.py` made the data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from realm_reference.model.model import Model, load_model

_DATA = Path(__file__).parent / "data" / "logits.npz"
_TOLERANCE = 1e-3  # of a logit, against transformers; both are float32, and differ by 2.6e-4 at most
_ROUNDING = 5e-4  # between two float32 runs that add in another order; 1.2e-4 was seen
_PROMPTS = ["one-token", "two-tokens", "short", "chat", "emoji", "json", "cjk", "code", "repetition", "prose"]


@pytest.fixture(scope="module")
def goldens() -> Iterator[Any]:
    with np.load(_DATA) as archive:
        yield {name: archive[name] for name in archive.files}


def _all_logits(model: Model, ids: list[int]) -> NDArray[Any]:
    logits: NDArray[Any] = model.transformer.forward(ids, model.transformer.new_cache(), rows=len(ids))
    return logits


def test_the_goldens_are_of_this_file(goldens: Any, smollm2_path: Path) -> None:
    assert (
        json.loads(str(goldens["about"]))["sha256"] == hashlib.sha256(smollm2_path.read_bytes()).hexdigest()
    )
    assert {name.split("/")[0] for name in goldens if name.endswith("/top")} == set(_PROMPTS)
    assert max(len(goldens[f"{name}/ids"]) for name in _PROMPTS) == 512


@pytest.mark.parametrize("prompt", _PROMPTS)
def test_every_position_agrees(goldens: Any, smollm2: Model, prompt: str) -> None:
    part = {key.split("/")[1]: goldens[key] for key in goldens if key.startswith(f"{prompt}/")}
    logits = _all_logits(smollm2, [int(i) for i in part["ids"]])
    top = part["top"].astype(np.int64)
    ours = np.take_along_axis(logits, top, axis=-1)
    np.testing.assert_allclose(ours, part["top_logits"], rtol=0, atol=_TOLERANCE)
    np.testing.assert_allclose(
        logits[:, goldens["columns"].astype(np.int64)], part["logits"], rtol=0, atol=_TOLERANCE
    )
    # The log of the sum of exponentials covers every column, those that are not stored as well.
    highest = logits.max(axis=-1, keepdims=True).astype(np.float64)
    spread = np.log(np.exp(logits - highest).sum(axis=-1)) + highest[:, 0]
    np.testing.assert_allclose(spread, part["logsumexp"], rtol=0, atol=_TOLERANCE)
    clear = part["top_logits"][:, 0] - part["top_logits"][:, 1] > _TOLERANCE
    assert clear.any()
    np.testing.assert_array_equal(logits.argmax(axis=-1)[clear], top[clear, 0])


def test_256_greedy_tokens_are_identical(goldens: Any, smollm2: Model) -> None:
    cache, chunk = smollm2.transformer.new_cache(), [int(i) for i in goldens["greedy/prompt"]]
    expected = [int(i) for i in goldens["greedy/tokens"]]
    assert len(expected) == 256
    for position, token in enumerate(expected):
        best = int(smollm2.transformer.forward(chunk, cache)[-1].argmax())
        assert best == token, f"greedy token {position} differs"
        chunk = [token]


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
    oracle = _all_logits(load_model(smollm2_path, dtype="float64"), ids)
    np.testing.assert_allclose(_all_logits(smollm2, ids), oracle, rtol=0, atol=_ROUNDING)
    stored = goldens["chat/top_logits"]
    ours = np.take_along_axis(oracle, goldens["chat/top"].astype(np.int64), axis=-1)
    np.testing.assert_allclose(ours, stored, rtol=0, atol=_TOLERANCE)
