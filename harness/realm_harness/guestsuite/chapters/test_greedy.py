"""Temperature 0: the most likely token."""

from __future__ import annotations

import numpy as np
from realm_mocks.host import Fixed, winners

from realm_harness.guestsuite.judging import demand_of, well
from realm_harness.guestsuite.marks import guest_case
from realm_harness.guestsuite.subject import VOCABULARY, GuestSubject
from realm_harness.guestsuite.tokenizers import Bytes


@guest_case("GUEST-GREEDY-001", "sample.greedy", "people compare runs at temperature 0")
def test_the_highest_logit_wins(guest: GuestSubject) -> None:
    """The highest logit wins wherever in the vocabulary it stands."""
    steps = [0, 1, 2, 3, 31, 32, 63, 64, 127, 128, 255, 256, 257, VOCABULARY.vocab_size - 4]
    run = well(guest.run(list(steps), max_tokens=len(steps)))
    demand_of(run, run.tokens == tuple(steps), f"the tokens are {run.tokens}; due were {steps}")


@guest_case("GUEST-GREEDY-002", "sample.ties", "two guests that break ties differently cannot be compared")
def test_ties_go_to_the_lowest_id(guest: GuestSubject) -> None:
    """Of equal logits the lowest id wins."""
    ties = [(70, 66, 90), (64, 65, 66, 67), (67, 66), (290, 5), (101, 109, 105), (33, 36), (35, 38, 34)]
    run = well(guest.run(list(ties)))
    due = tuple(min(tie) for tie in ties)
    demand_of(run, run.tokens == due, f"of {ties}, each a tie, it took {run.tokens}; due were {due}")


@guest_case("GUEST-GREEDY-003", "sample.greedy", "logits are no probabilities: all may be below zero")
def test_negative_logits(guest: GuestSubject) -> None:
    """The highest logit wins when all are far below zero, and when all are far above."""
    for offset in (-500.0, 500.0, -1e30):
        scale = np.float32(abs(offset) / 1000)
        logits = np.full(VOCABULARY.vocab_size, offset, dtype=np.float32)
        logits[ord("k")] += scale
        logits[0] -= scale
        run = well(guest.run(Fixed(logits), max_tokens=2))
        demand_of(run, run.tokens == (107, 107), f"among logits of about {offset} it took {run.tokens}")


@guest_case("GUEST-GREEDY-004", "sample.greedy", "float32 has no exact 0.0000000 after a division")
def test_almost_zero_is_zero(guest: GuestSubject) -> None:
    """A temperature below 1e-7 is greedy."""
    logits = np.zeros(VOCABULARY.vocab_size, dtype=np.float32)
    logits[ord("m")] = 1e-9
    for temperature in (0.0, 1e-8, 9e-8):
        run = well(guest.run(Fixed(logits), max_tokens=3, temperature=temperature, seed=5))
        demand_of(run, run.tokens == (109,) * 3, f"at temperature {temperature} it took {run.tokens}")


@guest_case("GUEST-GREEDY-005", "sample.greedy", "clients send all their settings together")
def test_filters_do_not_change_the_winner(guest: GuestSubject) -> None:
    """At temperature 0 neither seed nor filters change the token."""
    for options in ({"seed": 1}, {"seed": 2, "top_k": 3, "top_p": 0.5}, {"top_p": 0.0}, {"top_k": 1}):
        run = well(guest.run("abc", max_tokens=3, **options))
        demand_of(run, run.text == "abc", f"with {options} the text is {run.text!r}; due was 'abc'")


@guest_case("GUEST-GREEDY-006", "sample.vocabulary", "vocabularies come in all sizes")
def test_the_last_token_of_any_vocabulary(guest: GuestSubject) -> None:
    """The last token of a vocabulary can win, and nothing behind it can, whatever the size."""
    for size in (259, 260, 261, 511, 512, 513, 1031):
        tokenizer = Bytes(size)
        last = size - 3
        script = winners([last, (last, 65)], tokenizer)
        run = well(guest.run(script, "p", tokenizer=tokenizer))
        demand_of(run, run.tokens == (last, 65), f"of {size} tokens it took {run.tokens}, not {(last, 65)}")


@guest_case("GUEST-GREEDY-007", "sample.no-number", "a model in reduced precision overflows")
def test_what_is_no_number_does_not_win(guest: GuestSubject) -> None:
    """A logit that is NaN or -infinity does not win."""
    for value in (np.nan, -np.inf):
        logits = np.full(VOCABULARY.vocab_size, -3.0, dtype=np.float32)
        logits[[0, 1, 64, 117, 200]] = value
        logits[ord("q")] = -2.0
        run = well(guest.run(Fixed(logits), max_tokens=3))
        demand_of(run, run.tokens[:2] == (113, 113), f"with some logits {value} it took {run.tokens}")
