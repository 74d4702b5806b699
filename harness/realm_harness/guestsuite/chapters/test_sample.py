"""Sampling: the distribution of what is drawn. Seeds are fixed, so that a verdict stays what it is."""

from __future__ import annotations

import numpy as np
from realm_mocks.host import Fault, Fixed, Poison

from realm_harness.guestsuite.drawing import ALPHA, SEEDS, draw, everything, follows, only, row
from realm_harness.guestsuite.judging import demand_of, offered
from realm_harness.guestsuite.marks import guest_case
from realm_harness.guestsuite.oracle import chi_square
from realm_harness.guestsuite.subject import VOCABULARY, GuestSubject

LETTERS = {
    "q": 2.0, "c": 1.6, "x": 1.2, "a": 0.9, "m": 0.5, "z": 0.2, "d": 0.0, "k": -0.3, "t": -0.8, "b": -1.5,
}  # fmt: skip
LOGITS = {1: "realm_compute_logits", 2: "realm_forward"}


@guest_case("GUEST-SAMPLE-001", "sample.distribution", "what is drawn too often is a bias of every text")
def test_temperature_1(guest: GuestSubject) -> None:
    """At temperature 1 the samples follow the softmax of the logits."""
    follows(guest, row(LETTERS))


@guest_case("GUEST-SAMPLE-002", "sample.distribution", "the most used setting of all")
def test_below_1(guest: GuestSubject) -> None:
    """At temperature 0.5 the samples follow the softmax of the doubled logits."""
    follows(guest, row(LETTERS), temperature=0.5)


@guest_case("GUEST-SAMPLE-003", "sample.distribution", "the most used setting of all")
def test_above_1(guest: GuestSubject) -> None:
    """At temperature 2 the samples follow the softmax of the halved logits."""
    follows(guest, row(LETTERS), temperature=2.0)


@guest_case("GUEST-SAMPLE-004", "sample.distribution", "exp of a logit of 100 is no float32")
def test_large_logits(guest: GuestSubject) -> None:
    """Adding the same number to all logits changes nothing, however large it is."""
    for offset in (500.0, -500.0):
        values = row(LETTERS)
        shifted = np.where(values > -50, values + np.float32(offset), np.float32(-2000.0))
        follows(guest, shifted.astype(np.float32))


@guest_case("GUEST-SAMPLE-005", "sample.distribution", "the first and the last token of a row are lost first")
def test_a_flat_row(guest: GuestSubject) -> None:
    """Equal logits over the whole vocabulary give every token the same chance, the first and the last too."""
    size = VOCABULARY.vocab_size
    run, counts = draw(guest, np.zeros(size, dtype=np.float32), draws=600)
    groups = np.add.reduceat(counts, np.arange(0, size, 27))
    widths = np.diff(np.append(np.arange(0, size, 27), size))
    p_value = chi_square(groups, widths / size)
    demand_of(run, p_value >= ALPHA, f"of 27 tokens a group came {groups.tolist()} (p = {p_value:.1e})")
    never = int((counts == 0).sum())
    demand_of(run, never < size // 10, f"{never} of {size} tokens never came in {counts.sum()} draws")


@guest_case("GUEST-SAMPLE-006", "sample.distribution", "a rare token is rare, not impossible")
def test_rare_tokens(guest: GuestSubject) -> None:
    """A token of 6% comes in about 6% of the draws, one of 10^-40 never."""
    follows(guest, row({"a": float(np.log(0.94)), "y": float(np.log(0.06))}))


@guest_case("GUEST-SAMPLE-007", "sample.no-number", "-infinity is how hosts forbid a token")
def test_minus_infinity_is_never_drawn(guest: GuestSubject) -> None:
    """A token with the logit -infinity is never drawn."""
    values = row({"a": 1.0, "b": 1.0})
    values[values < -50] = -np.inf
    only(guest, values, "ab")


@guest_case("GUEST-SAMPLE-008", "sample.no-number", "a model in reduced precision overflows")
def test_no_numbers_at_all(guest: GuestSubject) -> None:
    """Rows of NaN and infinities neither trap a guest nor make it say tokens that do not exist."""
    for value in ("nan", "inf", "-inf"):
        for tokens in (None, (0,), (5, 90)):
            faults = [Fault(Poison(value, tokens), LOGITS[guest.version], nth) for nth in range(1, 6)]
            chosen = everything(guest, max_tokens=4, temperature=0.9, seed=3)
            run = guest.run("ab", faults=faults, **chosen)
            demand_of(run, run.fault is None, f"with logits that are {value} the guest broke: {run.fault}")
            refused = [finding for finding in run.findings if finding.rule == "refused"]
            demand_of(run, not refused, f"with logits that are {value}: {refused}")


@guest_case("GUEST-SAMPLE-009", "sample.independent", "noise that repeats is no noise")
def test_neighbours_are_independent(guest: GuestSubject) -> None:
    """What is drawn at one position says nothing of what is drawn at the next."""
    pairs = np.zeros(4, dtype=np.int64)
    for seed in (*SEEDS, 13):
        chosen = everything(guest, seed=seed, max_tokens=401)
        run = offered(guest.run(Fixed(row({"a": 0.0, "b": 0.0})), "p", layers=1, **chosen))
        drawn = np.asarray(run.tokens) - ord("a")
        pairs += np.bincount(2 * drawn[:-1] + drawn[1:], minlength=4)
    p_value = chi_square(pairs, np.full(4, 0.25))
    what = f"of two equal tokens the pairs aa, ab, ba, bb came {pairs.tolist()} times (p = {p_value:.1e})"
    demand_of(run, p_value >= ALPHA, what)
