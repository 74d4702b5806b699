"""Bias, penalties and log probabilities against plain NumPy, and the shaper that runs them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from realm_reference.orchestration import GenerationRequest, Prompt
from realm_reference.orchestration.logits import LogitBias, Penalties
from realm_reference.orchestration.logprobs import LEAST, logprobs_of
from realm_reference.orchestration.shaping import Shaper, Trail

VOCAB = 12
TOKENS = st.integers(0, VOCAB - 1)
ROWS = arrays(np.float32, VOCAB, elements=st.floats(-60, 60, width=32))


def request_of(**changes: Any) -> GenerationRequest:
    return GenerationRequest(Prompt("", 0, add_bos=False), 16, **changes)


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, np.uint32)


@given(
    row=ROWS, generated=st.lists(TOKENS, max_size=20), presence=st.floats(-2, 2), frequency=st.floats(-2, 2)
)
def test_penalties_are_openais_formula(
    row: np.ndarray, generated: list[int], presence: float, frequency: float
) -> None:
    expected = row.astype(np.float64)
    for token, count in Counter(generated).items():
        expected[token] -= presence + count * frequency
    Penalties(presence, frequency)(generated, row)
    np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-4)


@given(row=ROWS, bias=st.dictionaries(TOKENS, st.floats(-100, 100)))
def test_bias_is_added_to_its_tokens_alone(row: np.ndarray, bias: dict[int, float]) -> None:
    before = row.copy()
    LogitBias(bias)([], row)
    for token in range(VOCAB):
        assert row[token] == pytest.approx(float(before[token]) + bias.get(token, 0.0), abs=1e-4)


@given(row=arrays(np.float32, VOCAB, elements=st.floats(-20, 20, width=32)), token=TOKENS)
def test_a_bias_of_100_forces_and_of_minus_100_forbids(row: np.ndarray, token: int) -> None:
    forced, forbidden = row.copy(), row.copy()
    LogitBias({token: 100})([], forced)
    LogitBias({token: -100})([], forbidden)
    assert forced.argmax() == token
    assert forbidden.argmax() != token
    assert logprobs_of(forced, token, 0).logprob > -1e-6
    assert logprobs_of(forbidden, token, 0).logprob < -50


@given(
    row=arrays(np.float32, VOCAB, elements=st.floats(-1e4, 1e4, width=32)),
    token=TOKENS,
    count=st.integers(0, 20),
)
def test_logprobs_are_a_distribution_in_order(row: np.ndarray, token: int, count: int) -> None:
    scores = logprobs_of(row, token, count)
    exact = row.astype(np.float64)
    exact = exact - exact.max()
    exact = np.maximum(exact - np.log(np.exp(exact).sum()), LEAST)
    assert len(scores.top) == min(count, VOCAB)
    assert scores.top == tuple(sorted(scores.top, key=lambda entry: (-entry[1], entry[0])))
    assert len({token for token, _ in scores.top}) == len(scores.top)
    assert sum(np.exp(logprob) for _, logprob in scores.top) <= 1 + 1e-5
    assert LEAST <= scores.logprob <= 0
    assert scores.logprob == pytest.approx(exact[token], abs=2e-2)
    left_out = set(range(VOCAB)) - {i for i, _ in scores.top}
    if scores.top and left_out:
        assert max(exact[i] for i in left_out) <= min(exact[i] for i, _ in scores.top) + 1e-2
    assert dict(scores.top).get(token, scores.logprob) == scores.logprob


def test_equals_are_ordered_by_id() -> None:
    scores = logprobs_of(np.zeros(VOCAB, np.float32), 7, 3)
    assert [token for token, _ in scores.top] == [0, 1, 2]


def rows_of(*values: float) -> np.ndarray:
    rows = np.zeros((len(values), VOCAB), np.float32)
    rows[:, 0] = values
    return rows


def test_the_prompt_is_not_penalised_and_the_answer_is() -> None:
    shaper, trail = Shaper(request_of(presence_penalty=1.0)), Trail()
    rows = rows_of(0)
    shaper.forwarded(trail, ids(4, 5), rows)
    assert not rows.any()
    shaper.emitted(trail, 6)
    rows = rows_of(0)
    shaper.forwarded(trail, ids(6), rows)
    assert np.flatnonzero(rows[0]).tolist() == [6]


def test_tokens_that_were_taken_back_are_not_penalised() -> None:
    shaper, trail = Shaper(request_of(frequency_penalty=1.0)), Trail()
    shaper.forwarded(trail, ids(1), rows_of(0))
    shaper.emitted(trail, 2)
    shaper.forwarded(trail, ids(2, 3, 3), rows_of(0, 0, 0))
    trail.truncate(2)
    rows = rows_of(0)
    shaper.forwarded(trail, ids(5), rows)
    assert np.flatnonzero(rows[0]).tolist() == [2, 5]


def test_each_row_of_a_draft_is_penalised_by_what_is_before_it() -> None:
    shaper, trail = Shaper(request_of(frequency_penalty=2.0)), Trail()
    shaper.forwarded(trail, ids(1), rows_of(0))
    shaper.emitted(trail, 2)
    rows = rows_of(0, 0, 0)
    shaper.forwarded(trail, ids(2, 3, 3), rows)
    assert rows[:, 2].tolist() == [-2, -2, -2]
    assert rows[:, 3].tolist() == [0, -2, -4]


def test_logprobs_are_those_of_the_row_that_the_token_came_from_before_any_bias() -> None:
    shaper, trail = Shaper(request_of(logprobs=1, logit_bias={0: -100.0})), Trail()
    shaper.forwarded(trail, ids(1), rows_of(3))
    first = shaper.emitted(trail, 0)
    assert first is not None
    assert first.top[0][0] == 0
    # A guest that guesses ahead gets several rows, and emits from each.
    shaper.forwarded(trail, ids(0, 7, 8), rows_of(5, 6, 7))
    scores = [shaper.emitted(trail, token) for token in (7, 8, 0)]
    expected = [float(logprobs_of(rows_of(value)[0], 0, 0).logprob) for value in (5, 6, 7)]
    assert [score.top[0] for score in scores if score] == [(0, value) for value in expected]


def test_a_token_without_logits_is_a_breach() -> None:
    shaper, trail = Shaper(request_of(logprobs=0)), Trail()
    shaper.forwarded(trail, ids(1), rows_of())
    with pytest.raises(ValueError, match="without having asked"):
        shaper.emitted(trail, 3)


def test_a_fork_has_the_rows_so_far_and_goes_its_own_way() -> None:
    shaper, trail = Shaper(request_of(logprobs=0)), Trail()
    shaper.forwarded(trail, ids(1), rows_of(3))
    fork = trail.fork()
    shaper.forwarded(fork, ids(2), rows_of(4))
    assert (len(trail.tokens), len(trail.rows)) == (1, 1)
    assert (len(fork.tokens), len(fork.rows)) == (2, 2)
    assert shaper.emitted(trail, 0) is not None
