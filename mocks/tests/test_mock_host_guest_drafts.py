"""The built v2 guest that guesses: what it draws, beside what it draws without, from a known distribution."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray
from realm_abi.guests import guest_bytes
from realm_mocks.host import Fixed, MockHost, default_vocabulary

VOCABULARY = default_vocabulary()
PROBABILITIES = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
REQUESTS, TOKENS = 5, 400
SEVENTH = 42.0
"""A chi-square of 5 degrees of freedom is above this once in 10^7."""


def logits() -> NDArray[np.float32]:
    """Six letters with these probabilities."""
    row = np.full(VOCABULARY.vocab_size, -100, np.float32)
    row[ord("a") : ord("g")] = np.log(PROBABILITIES)
    return row


@functools.cache
def drawn(guesses: int, seeds: range, draft: int | None = None) -> tuple[NDArray[np.int64], int]:
    """How often each letter was drawn, and the forwards that it took."""
    proposals = None if draft is None else (lambda tokens, most: [draft] * most)
    host = MockHost(guest_bytes("v2"), Fixed(logits()), draft=proposals, layers=1)
    counts = np.zeros(6, np.int64)
    forwards = 0
    for seed in seeds:
        run = host.generate(
            "p",
            temperature=1.0,
            seed=seed,
            max_tokens=TOKENS,
            draft_tokens=guesses,
            draft_lookup=2 if draft is None else 0,
        ).check()
        counts += np.bincount(np.array(run.tokens) - ord("a"), minlength=6)
        forwards += run.trace.counts["realm_forward"]
    return counts, forwards


def distance(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """The two-sample chi-square of counts [6], of the same number of draws each."""
    return float(((one - other) ** 2 / (one + other)).sum())


@pytest.mark.parametrize("draft", [None, ord("a"), ord("f")], ids=["text", "likeliest", "unlikely"])
def test_two_samples_with_and_without_guesses_are_alike(draft: int | None) -> None:
    """2000 draws with guesses against 2000 others without, other seeds: two samples of one distribution.

    Power: where a wrong rule moved a tenth of the mass from the other letters to the likeliest, the
    chi-square would have a noncentrality of 40, and be above 42 half of the time; where it moved a fifth
    (taking a likely guess unseen moves more), of 160, and be above 42 but for one time in a million.
    """
    with_guesses, forwards = drawn(4, range(REQUESTS), draft)
    without, plain = drawn(0, range(100, 100 + REQUESTS))
    assert with_guesses.sum() == without.sum() == REQUESTS * TOKENS
    assert distance(with_guesses, without) < SEVENTH
    assert forwards < plain


def test_the_same_seeds_draw_the_same() -> None:
    for draft in (None, ord("a"), ord("f")):
        assert (drawn(4, range(1), draft)[0] == drawn(0, range(1))[0]).all()


def test_the_test_sees_a_fifth_of_the_mass_moved() -> None:
    rng = np.random.default_rng(5)
    moved = PROBABILITIES.copy()
    moved[1:] -= 0.2 * PROBABILITIES[1:] / PROBABILITIES[1:].sum()
    moved[0] += 0.2
    draws = REQUESTS * TOKENS
    seen = [
        distance(rng.multinomial(draws, PROBABILITIES), rng.multinomial(draws, moved)) for _ in range(200)
    ]
    assert min(seen) > SEVENTH
