from __future__ import annotations

import numpy as np
import pytest
from realm_mocks.host import LayerwiseModel

LAYERS, WIDTH = 3, 8


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def model(reports: list[str]) -> LayerwiseModel:
    return LayerwiseModel(LAYERS, WIDTH, lambda rule, _: reports.append(rule))


def embed(model: LayerwiseModel, *tokens: int) -> np.ndarray:
    out = np.empty(len(tokens) * WIDTH, dtype=np.float32)
    model.embed(tokens, out)
    return out


def layers(model: LayerwiseModel, hidden: np.ndarray, position: int, *order: int) -> np.ndarray:
    for layer in order or range(LAYERS):
        out = np.empty_like(hidden)
        model.layer(layer, hidden, position, out)
        hidden = out
    return hidden


def test_a_right_walk_is_silent_and_logits_see_the_history(model: LayerwiseModel, reports: list[str]) -> None:
    hidden = layers(model, embed(model, 5, 6, 7), 0)
    assert model.seen(hidden[-WIDTH:]) == (5, 6, 7)
    assert model.seen(hidden[:WIDTH]) == (5,)
    hidden = layers(model, embed(model, 8), 3)
    assert model.seen(hidden) == (5, 6, 7, 8)
    assert reports == []


def test_layers_may_be_computed_in_place(model: LayerwiseModel, reports: list[str]) -> None:
    hidden = embed(model, 5, 6)
    for layer in range(LAYERS):
        model.layer(layer, hidden, 0, hidden)
    assert model.seen(hidden[WIDTH:]) == (5, 6)
    assert reports == []


def test_going_back_to_an_earlier_position_forgets_what_followed(model: LayerwiseModel) -> None:
    layers(model, embed(model, 5, 6, 7), 0)
    assert model.seen(layers(model, embed(model, 9), 1)) == (5, 9)


@pytest.mark.parametrize(
    ("order", "rule"),
    [((0, 2), "layer-order"), ((1, 2), "layer-order"), ((0, 1), "layer-order"), ((0, 2, 1), "layer-order")],
)
def test_a_skipped_or_swapped_layer_is_reported(
    model: LayerwiseModel, reports: list[str], order: tuple[int, ...], rule: str
) -> None:
    model.seen(layers(model, embed(model, 5), 0, *order))
    assert set(reports) == {rule}


def test_a_wrong_position_is_reported_and_changes_what_is_seen(
    model: LayerwiseModel, reports: list[str]
) -> None:
    layers(model, embed(model, 5, 6), 0)
    assert model.seen(layers(model, embed(model, 7), 4)) != (5, 6, 7)
    assert set(reports) == {"position"}


@pytest.mark.parametrize("value", [1.5, -1.0, 1e6, np.nan, np.inf])
@pytest.mark.parametrize("where", [0, 1, WIDTH - 1])
def test_a_changed_vector_is_reported(
    model: LayerwiseModel, reports: list[str], where: int, value: float
) -> None:
    hidden = embed(model, 5)
    hidden[where] = value
    model.layer(0, hidden, 0, np.empty_like(hidden))
    assert reports == ["hidden-chain"]


def test_vectors_of_equal_tokens_are_not_confused(model: LayerwiseModel) -> None:
    hidden = embed(model, 5, 5)
    assert not np.array_equal(hidden[:WIDTH], hidden[WIDTH:])
