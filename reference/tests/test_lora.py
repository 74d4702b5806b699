"""An adapter beside the weights is the adapter in them, and one that changes nothing changes nothing."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import pytest
from numpy.typing import NDArray
from realm_reference.compute.numpy import Arrays, numpy_arrays
from realm_reference.model.adapter_files import load_adapter
from realm_reference.model.adapters import TARGETS, Adapter, Factors, Target, projection_shapes
from realm_reference.model.config import LlamaConfig
from realm_reference.model.gguf import open_gguf
from realm_reference.model.transformer import Transformer
from realm_reference.model.weights import load_weights

WRITER = runpy.run_path(str(Path(__file__).with_name("adapter_writer.py")))
# Between rounding the sum and summing what was rounded; logits are of order 10.
TOLERANCE = {"float32": 1e-4, "float64": 1e-11}
IDS = [int(i) for i in np.random.default_rng(3).integers(0, 266, 40)]
MATRIX: dict[Target, str] = dict.fromkeys(("q", "k", "v"), "qkv") | dict.fromkeys(("gate", "up"), "gate_up")
MATRIX |= {"output": "output", "down": "down"}


def transformer(path: Path, arrays: Arrays) -> Transformer:
    file = open_gguf(path)
    config = LlamaConfig.from_gguf(file)
    return Transformer(config, load_weights(file, config, arrays), arrays)


@pytest.fixture(scope="module", params=["float32", "float64"])
def model(request: pytest.FixtureRequest, tiny_gguf: Path) -> Transformer:
    return transformer(tiny_gguf, numpy_arrays(request.param))


def drawn(config: LlamaConfig, seed: int, **options: Any) -> Adapter:
    pairs = WRITER["draw"](config, seed, **options)
    layers: list[dict[Target, Factors]] = [{} for _ in range(config.n_layers)]
    for (layer, target), (a, b) in pairs.items():
        layers[layer][target] = Factors(a, b)
    return Adapter(f"drawn-{seed}", tuple(layers), str(seed))


def merged(model: Transformer, adapter: Adapter) -> Transformer:
    """The adapter multiplied out into weights of its own."""
    shapes, layers = projection_shapes(model.config), []
    for weights, changes in zip(model.weights.layers, adapter.layers, strict=True):
        for matrix in dict.fromkeys(MATRIX.values()):
            names = [name for name in TARGETS if MATRIX[name] == matrix]
            added = [
                changes[name].b.astype(np.float64) @ changes[name].a.astype(np.float64)
                if name in changes
                else np.zeros(shapes[name])
                for name in names
            ]
            whole = np.asarray(getattr(weights, matrix)) + np.concatenate(added).T
            changed = model.arrays.from_numpy(whole.T).T
            weights = dataclasses.replace(weights, **{matrix: changed})
        layers.append(weights)
    return dataclasses.replace(model, weights=dataclasses.replace(model.weights, layers=tuple(layers)))


def logits(model: Transformer, ids: list[int] = IDS) -> NDArray[Any]:
    rows: NDArray[Any] = model.forward(ids, model.new_cache(), rows=len(ids))
    return rows


@pytest.mark.parametrize("targets", [TARGETS, *[(target,) for target in TARGETS], ("k", "v"), ("q", "up")])
def test_an_adapter_beside_the_weights_is_the_adapter_in_them(
    model: Transformer, targets: tuple[Target, ...]
) -> None:
    adapter = drawn(model.config, 5, targets=targets, size=0.5)
    beside, inside = logits(model.with_adapter(adapter)), logits(merged(model, adapter))
    dtype = np.dtype(model.arrays.dtype).name
    np.testing.assert_allclose(beside, inside, rtol=0, atol=TOLERANCE[dtype])
    assert np.abs(beside - logits(model)).max() > 0.1  # and it is something


def test_zeros_in_b_give_the_bits_of_the_base(model: Transformer) -> None:
    adapter = drawn(model.config, 5, size=0.0)
    np.testing.assert_array_equal(logits(model.with_adapter(adapter)), logits(model))


def test_the_layers_that_are_not_changed_keep_their_bits(model: Transformer) -> None:
    whole = drawn(model.config, 5)
    last = dataclasses.replace(whole, layers=({}, whole.layers[1]))
    x, plain, adapted = model.embed(IDS), model.new_cache(), model.new_cache()
    np.testing.assert_array_equal(
        model.with_adapter(last).layer(0, x, adapted, 0), model.layer(0, x, plain, 0)
    )
    assert np.any(model.with_adapter(last).layer(1, x, adapted, 0) != model.layer(1, x, plain, 0))


def test_both_formats_give_the_same_bits(model: Transformer, tmp_path: Path) -> None:
    pairs = WRITER["draw"](model.config, 7)
    files = [
        WRITER["write_peft"](tmp_path / "fr", pairs),
        WRITER["write_gguf"](tmp_path / "fr.gguf", pairs, model.config),
    ]
    peft, ggml = (logits(model.with_adapter(load_adapter("fr", path, model.config))) for path in files)
    np.testing.assert_array_equal(peft, ggml)


def test_an_adapted_model_shares_the_weights_and_leaves_the_base_alone(model: Transformer) -> None:
    before = logits(model)
    adapted = model.with_adapter(drawn(model.config, 5))
    assert adapted.weights is model.weights
    logits(adapted)
    np.testing.assert_array_equal(logits(model), before)


def test_nothing_but_the_array_api_standard_is_used(tiny_gguf: Path) -> None:
    strict = transformer(tiny_gguf, Arrays(array_api_strict, array_api_strict.float32))
    plain = transformer(tiny_gguf, numpy_arrays())
    adapter = drawn(plain.config, 5)
    rows = strict.arrays.to_numpy(logits(strict.with_adapter(adapter)))
    np.testing.assert_allclose(rows, logits(plain.with_adapter(adapter)), rtol=0, atol=1e-4)
