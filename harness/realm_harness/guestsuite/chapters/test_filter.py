"""top_k, top_p and min_p: which tokens may be drawn at all, and how often those that may."""

from __future__ import annotations

from realm_harness.guestsuite.drawing import drawn_letters, follows, of_probabilities, only, row
from realm_harness.guestsuite.judging import demand_of
from realm_harness.guestsuite.marks import V2, guest_case
from realm_harness.guestsuite.oracle import softmax
from realm_harness.guestsuite.subject import GuestSubject

FIVE = of_probabilities({"p": 0.32, "e": 0.26, "t": 0.2, "b": 0.13, "k": 0.09})
"""Their order by probability is not their order by id."""

ALL = "bekpt"

STEEP = of_probabilities({"p": 0.6, "e": 0.2, "t": 0.1, "b": 0.06, "k": 0.04})
"""Far enough from equal for a few hundred draws to show it."""


@guest_case("GUEST-FILTER-001", "filter.top-k", "who sets it wants the tail cut off")
def test_top_k(guest: GuestSubject) -> None:
    """Only the k likeliest tokens are drawn."""
    only(guest, FIVE, "ep", top_k=2)
    only(guest, FIVE, "ept", top_k=3)


@guest_case("GUEST-FILTER-002", "filter.top-k", "some clients ask for greedy in this way")
def test_top_k_1(guest: GuestSubject) -> None:
    """top_k 1 is the most likely token at any temperature."""
    only(guest, FIVE, "p", top_k=1, temperature=2.0)


@guest_case("GUEST-FILTER-003", "filter.off", "0 is what clients send when they want it off")
def test_top_k_off(guest: GuestSubject) -> None:
    """top_k 0 is off, and one of the vocabulary's size or more keeps everything."""
    for top_k in (0, 297, 100_000, 2**32 - 1):
        only(guest, FIVE, ALL, top_k=top_k)


@guest_case("GUEST-FILTER-004", "filter.renormalised", "what is cut off goes to the others in proportion")
def test_the_rest_keeps_its_proportions(guest: GuestSubject) -> None:
    """Among the k likeliest the samples follow their own softmax."""
    due = softmax(STEEP, 1.0)
    due[[ord("b"), ord("k")]] = 0
    follows(guest, STEEP, due / due.sum(), top_k=3)


@guest_case("GUEST-FILTER-005", "filter.top-p", "who sets it wants the tail cut off")
def test_top_p(guest: GuestSubject) -> None:
    """Only the fewest likeliest tokens whose probabilities reach top_p are drawn."""
    only(guest, FIVE, "p", top_p=0.3)
    only(guest, FIVE, "ep", top_p=0.5)
    only(guest, FIVE, "ept", top_p=0.7)
    only(guest, FIVE, "bept", top_p=0.85)


@guest_case("GUEST-FILTER-006", "filter.off", "the default of most clients")
def test_top_p_1(guest: GuestSubject) -> None:
    """top_p 1 keeps everything."""
    only(guest, FIVE, ALL, top_p=1.0)


@guest_case("GUEST-FILTER-007", "filter.top-p", "an empty choice is no choice")
def test_top_p_0(guest: GuestSubject) -> None:
    """A tiny top_p leaves the most likely token, not none."""
    only(guest, FIVE, "p", top_p=1e-6)
    only(guest, FIVE, "p", top_p=0.0)


@guest_case("GUEST-FILTER-008", "filter.renormalised", "what is cut off goes to the others in proportion")
def test_the_nucleus_keeps_its_proportions(guest: GuestSubject) -> None:
    """Within top_p the samples follow their own softmax."""
    due = softmax(STEEP, 1.0)
    due[[ord("b"), ord("k")]] = 0
    follows(guest, STEEP, due / due.sum(), top_p=0.85)


@guest_case("GUEST-FILTER-009", "filter.after-temperature", "the tail that is cut is the one that is drawn")
def test_temperature_comes_first(guest: GuestSubject) -> None:
    """top_p counts probabilities after the temperature."""
    only(guest, FIVE, "ept", top_p=0.55, temperature=2.0)


@guest_case("GUEST-FILTER-010", "filter.top-k", "equal logits are common in small vocabularies")
def test_a_tie_at_the_border(guest: GuestSubject) -> None:
    """Of tokens that tie at the border as many are kept as top_k says, no more and no fewer."""
    run, letters = drawn_letters(guest, row({"a": 1.0, "f": 1.0, "c": 1.0, "h": 1.0}), top_k=2)
    demand_of(run, len(letters) == 2, f"of four equal tokens top_k=2 left {len(letters)}: {letters!r}")


@guest_case("GUEST-FILTER-011", "filter.min-p", "who sets it wants the tail cut off", versions=V2)
def test_min_p(guest: GuestSubject) -> None:
    """Tokens less likely than min_p times the likeliest are not drawn."""
    only(guest, FIVE, "ept", min_p=0.5)
    only(guest, FIVE, "ep", min_p=0.7)
    only(guest, FIVE, "p", min_p=0.9)


@guest_case("GUEST-FILTER-012", "filter.off", "0 is what clients send when they want it off", versions=V2)
def test_min_p_off(guest: GuestSubject) -> None:
    """min_p 0 keeps everything, min_p 1 the likeliest."""
    only(guest, FIVE, ALL, min_p=0.0)
    only(guest, FIVE, "p", min_p=1.0)


@guest_case("GUEST-FILTER-013", "filter.chain", "each filter works on what the one before left", versions=V2)
def test_top_p_of_what_top_k_left(guest: GuestSubject) -> None:
    """top_p counts shares of what top_k left."""
    only(guest, FIVE, "p", top_k=2, top_p=0.5)
    only(guest, FIVE, "ep", top_k=2, top_p=0.57)


@guest_case("GUEST-FILTER-014", "filter.chain", "clients set all of them together", versions=V2)
def test_all_filters_together(guest: GuestSubject) -> None:
    """All three filters together leave what each of them leaves."""
    only(guest, FIVE, "ep", top_k=4, top_p=0.9, min_p=0.7)
    only(guest, FIVE, "ept", top_k=3, top_p=1.0, min_p=0.1)
    only(guest, FIVE, "ept", top_p=0.6, min_p=0.5)  # of what min_p leaves, two would be enough


@guest_case("GUEST-FILTER-015", "filter.top-p", "a flat row is the worst case of a filter")
def test_a_flat_row(guest: GuestSubject) -> None:
    """Of equal tokens top_p keeps as many as reach it."""
    run, letters = drawn_letters(guest, row(dict.fromkeys("abcdefgh", 0.0)), top_p=0.7)
    demand_of(run, len(letters) == 6, f"of eight equal tokens top_p=0.7 left {len(letters)}: {letters!r}")
