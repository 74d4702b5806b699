"""The guest's sampler against one in plain Python, and against the distribution that it should draw from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

Open = Callable[..., int]
Row = NDArray[np.float32]
BORDER = 1e-5
"""How near to a border rounding may put a token on its other side."""


@dataclass(frozen=True)
class Options:
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    penalty: float = 1.0
    seed: int = 0


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10, from the paper's description."""
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(b >> 32) ^ counter[1] ^ key[0], b % 2**32, (a >> 32) ^ counter[3] ^ key[1], a % 2**32]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return counter


def uniform(seed: int, position: int) -> float:
    words = philox([position % 2**32, position >> 32, 0, 0], [seed % 2**32, seed >> 32])
    return ((words[0] >> 5) * 2**26 + (words[1] >> 6)) / 2**53


def penalised(logits: Row, options: Options, known: list[int]) -> Row:
    scaled, factor = logits.copy(), np.float32(options.penalty)
    for token in set(known):
        scaled[token] = scaled[token] / factor if scaled[token] > 0 else scaled[token] * factor
    return scaled


def distribution(logits: Row, options: Options, known: list[int]) -> tuple[NDArray[np.float64], float]:
    """[V] -> probabilities [V] after the filters, and how far the nearest border of a filter is."""
    scaled = logits.copy()
    for token in set(known):
        positive = scaled[token] > 0
        scaled[token] = (
            scaled[token] / np.float32(options.penalty)
            if positive
            else scaled[token] * np.float32(options.penalty)
        )
    scaled = scaled / np.float32(options.temperature)
    order = sorted(range(len(scaled)), key=lambda token: (-scaled[token], token))
    weights = np.exp(scaled.astype(np.float64) - float(scaled.max()))
    margin = 1.0
    if options.top_k:
        order = order[: options.top_k]
    if np.float32(options.top_p) < 1:
        share = np.cumsum(weights[order]) / weights[order].sum()
        margin = min(margin, float(np.abs(share - np.float32(options.top_p)).min()))
        order = order[: int(np.searchsorted(share, np.float32(options.top_p))) + 1]
    if options.min_p:
        margin = min(margin, float(np.abs(weights[order] - np.float32(options.min_p)).min()))
        order = [token for token in order if weights[token] >= np.float32(options.min_p)]
    probabilities = np.zeros(len(scaled))
    probabilities[order] = weights[order] / weights[order].sum()
    return probabilities, margin


def sample(
    logits: NDArray[np.float32], options: Options, known: list[int], position: int
) -> tuple[int, float]:
    """A token, and how far the nearest border between tokens is."""
    if options.temperature < 1e-7:
        return int(penalised(logits, options, known).argmax()), 1.0
    probabilities, margin = distribution(logits, options, known)
    drawn = uniform(options.seed, position)
    cumulative = np.cumsum(probabilities)
    token = min(int(np.searchsorted(cumulative, drawn, side="right")), int(np.flatnonzero(probabilities)[-1]))
    return token, min(margin, float(np.abs(cumulative - drawn).min()))


@pytest.fixture(scope="session")
def open_sampler(units: Any) -> Open:
    def run(logits: Row, options: Options, known: list[int]) -> int:
        answer: int = units.call(
            "unit_sampler_open",
            len(logits),
            options.temperature,
            options.top_k,
            options.top_p,
            options.min_p,
            options.penalty,
            options.seed - (options.seed >> 63 << 64),
        )
        if answer == 0:
            units.write(units.call("unit_logits"), logits.astype("<f4").tobytes())
            for token in known:
                units.call("unit_know", token)
        return answer

    return run


def test_philox_known_answers(units: Any) -> None:
    """The vectors that the authors publish with Random123 (kat_vectors, philox4x32 10)."""
    ones = 0xFFFFFFFF
    for counter, key, expected in (
        ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([ones] * 4, [ones] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ):
        pointer = units.put(np.array(counter, "<u4").tobytes())
        units.call("unit_philox", pointer, *(int(np.int32(np.uint32(word))) for word in key))
        assert np.frombuffer(units.read(pointer, 16), "<u4").tolist() == expected
        assert philox(counter, key) == expected


@given(seed=st.integers(0, 2**64 - 1), position=st.integers(0, 2**63 - 1))
def test_uniform(units: Any, seed: int, position: int) -> None:
    assert units.call("unit_uniform", seed - (seed >> 63 << 64), position) == uniform(seed, position)


# Whole numbers give equal logits; offsets give rows of one sign.
numbers = st.one_of(st.floats(-4, 4, width=32), st.integers(-4, 4).map(float))
rows = st.builds(
    lambda row, offset: np.array(row, np.float32) + np.float32(offset),
    st.lists(numbers, min_size=1, max_size=700),
    st.sampled_from([-6, 0, 0, 6]),
)
sampling_options = st.builds(
    Options,
    temperature=st.one_of(st.just(0.0), st.floats(0.05, 3)),
    top_k=st.one_of(st.just(0), st.integers(1, 50)),
    top_p=st.one_of(st.just(1.0), st.floats(0, 1)),
    min_p=st.one_of(st.just(0.0), st.floats(0.001, 1)),
    penalty=st.one_of(st.just(1.0), st.floats(0.5, 2)),
    seed=st.integers(0, 2**64 - 1),
)


@given(row=rows, options=sampling_options, data=st.data())
def test_takes_what_plain_python_takes(
    units: Any,
    open_sampler: Open,
    row: Row,
    options: Options,
    data: st.DataObject,
) -> None:
    known = data.draw(st.lists(st.integers(0, len(row) - 1), max_size=10))
    position = data.draw(st.integers(0, 2**40))
    expected, margin = sample(row, options, known, position)
    assume(margin > BORDER)
    assert open_sampler(row, options, known) == 0
    assert units.call("unit_take", position) == expected


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(temperature=0.6),
        Options(top_k=40),
        Options(top_k=3000),
        Options(top_p=0.9),
        Options(top_p=0.9, top_k=40, penalty=1.1, temperature=0.7),
        Options(min_p=0.05),
        Options(top_p=0.5, min_p=0.01),
    ],
    ids=str,
)
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_a_whole_vocabulary(units: Any, open_sampler: Open, options: Options, spread: float) -> None:
    random = np.random.default_rng(7)
    row = (random.standard_normal(49_152) * spread).astype(np.float32)
    known = random.integers(0, len(row), 100).tolist()
    assert open_sampler(row, options, known) == 0
    probabilities, _ = distribution(row, options, known)
    cumulative = np.cumsum(probabilities)
    for position in range(50):
        token = units.call("unit_take", position)
        drawn = uniform(options.seed, position)
        # The token's own stretch of the cumulative distribution holds the draw, but for float32's rounding.
        assert cumulative[token] - probabilities[token] - BORDER <= drawn <= cumulative[token] + BORDER
        assert probabilities[token] > 0


def test_filters_keep_the_lowest_ids_of_equals(units: Any, open_sampler: Open) -> None:
    row = np.zeros(3000, np.float32)
    row[[50, 2500]] = 1
    for options, kept in (
        (Options(top_k=5), {50, 2500, 0, 1, 2}),
        (Options(top_k=1), {50}),
        (Options(temperature=0.1, top_p=0.2), {50}),
    ):
        open_sampler(row, options, [])
        assert {units.call("unit_take", position) for position in range(200)} == kept


def test_a_penalty_makes_negative_logits_less_likely(units: Any, open_sampler: Open) -> None:
    row = np.array([-1.0, -1.1, -2.0], np.float32)
    for known, expected in (([], 0), ([0], 1), ([0, 1], 2), ([0, 1, 2], 0)):
        open_sampler(row, Options(temperature=0.0, penalty=4.0), known)
        assert units.call("unit_take", 0) == expected


def test_exponentials_are_those_of_float32(units: Any, open_sampler: Open) -> None:
    row = np.linspace(-87, 0, 20_000, dtype=np.float32)
    open_sampler(row, Options(), [])
    total = units.call("unit_exponentials")
    weights = np.frombuffer(units.read(units.call("unit_weights"), row.nbytes), "<f4")
    exact = np.exp(row.astype(np.float64))
    # The exponent is rounded to float32, as it is where logits are divided by a temperature first.
    assert (np.abs(weights / exact - 1) < 2.5e-7 - row * 1.5e-7).all()
    assert total == pytest.approx(weights.astype(np.float64).sum(), rel=2e-7)


@pytest.mark.parametrize("seed", [0, 1, 2**63 + 11])
def test_draws_the_distribution(units: Any, open_sampler: Open, seed: int) -> None:
    """Chi-square over 16 tokens with 15 degrees of freedom: 44.3 is the 1 - 1e-4 quantile."""
    count = 20_000
    row = np.linspace(-2, 2, 16, dtype=np.float32)
    options = Options(temperature=1.3, seed=seed)
    open_sampler(row, options, [])
    out = units.put(bytes(4 * count))
    units.call("unit_take_many", 0, count, out)
    seen = np.bincount(np.frombuffer(units.read(out, 4 * count), "<u4"), minlength=16)
    expected = distribution(row, options, [])[0] * count
    assert float(((seen - expected) ** 2 / expected).sum()) < 44.3


def test_greedy_takes_the_lowest_id_of_equals(units: Any, open_sampler: Open) -> None:
    for equals in ([3, 9], [255, 256], [1, 2, 3], [600, 601, 2], [0, 699]):
        row = np.zeros(700, np.float32)
        row[equals] = 4
        open_sampler(row, Options(temperature=0.0), [])
        assert units.call("unit_take", 0) == min(equals)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 1e-3])
@pytest.mark.parametrize(
    "strange", [[math.nan] * 5, [math.inf, 1.0], [-math.inf] * 3, [math.nan, 2.0, -math.inf]]
)
def test_strange_logits_give_some_token(
    units: Any, open_sampler: Open, strange: list[float], temperature: float
) -> None:
    for options in (Options(temperature), Options(temperature, top_k=2), Options(temperature, top_p=0.5)):
        open_sampler(np.array(strange, np.float32), options, [])
        assert 0 <= units.call("unit_take", 1) < len(strange)


def test_nan_and_minus_infinity_are_never_taken(units: Any, open_sampler: Open) -> None:
    row = np.full(300, -math.inf, np.float32)
    row[[7, 200]] = [1, math.nan]
    for options in (Options(0.0), Options(), Options(top_k=5), Options(top_p=0.99), Options(min_p=0.1)):
        open_sampler(row, options, [])
        assert [units.call("unit_take", position) for position in range(20)] == [7] * 20


@given(row=rows, data=st.data())
def test_logprob_is_log_softmax(units: Any, open_sampler: Open, row: Row, data: st.DataObject) -> None:
    token = data.draw(st.integers(0, len(row) - 1))
    open_sampler(row, Options(), [])
    wide = row.astype(np.float64)
    expected = wide[token] - wide.max() - math.log(np.exp(wide - wide.max()).sum())
    assert units.call("unit_logprob", token) == pytest.approx(expected, rel=1e-6, abs=1e-6)
