"""The repetition penalty."""

from __future__ import annotations

from realm_mocks.host import Fixed

from realm_harness.guestsuite.drawing import follows, row
from realm_harness.guestsuite.judging import demand_of, offered
from realm_harness.guestsuite.marks import guest_case
from realm_harness.guestsuite.oracle import softmax
from realm_harness.guestsuite.subject import GuestSubject


def check_text(guest: GuestSubject, logits: dict[str, float], prompt: str, penalty: float, due: str) -> None:
    """At temperature 0 and with this penalty the text is `due`."""
    script = Fixed(row(logits))
    run = offered(guest.run(script, prompt, max_tokens=len(due), repetition_penalty=penalty))
    what = f"logits {logits}, prompt {prompt!r}, penalty {penalty}: the text is {run.text!r}; due was {due!r}"
    demand_of(run, run.text == due, what)


@guest_case("GUEST-PENALTY-001", "penalty.generated", "it is there to end loops")
def test_what_was_said_is_penalised(guest: GuestSubject) -> None:
    """A token that was generated is less likely from then on."""
    check_text(guest, {"A": 2.0, "B": 1.9, "C": 1.5}, "p", 1.5, "ABC")


@guest_case("GUEST-PENALTY-002", "penalty.prompt", "the context is the prompt and the text")
def test_what_was_asked_is_penalised(guest: GuestSubject) -> None:
    """A token of the prompt is less likely from the beginning."""
    check_text(guest, {"A": 2.0, "B": 1.9}, "xA", 1.5, "B")
    check_text(guest, {"A": 2.0, "B": 1.9}, "A more distant one, in another chunk", 1.5, "B")


@guest_case("GUEST-PENALTY-003", "penalty.sign", "dividing a negative logit would favour it")
def test_negative_logits_are_multiplied(guest: GuestSubject) -> None:
    """A negative logit is multiplied by the penalty, a positive one divided."""
    check_text(guest, {"A": -1.0, "B": -1.2}, "A", 1.5, "B")
    check_text(guest, {"A": 3.0, "B": 1.9}, "A", 1.5, "A")


@guest_case("GUEST-PENALTY-004", "penalty.once", "a common word is not impossible at the end of a long text")
def test_it_does_not_compound(guest: GuestSubject) -> None:
    """A token is penalised once, however often it stands in the context."""
    check_text(guest, {"A": 2.0, "B": 1.2}, "AAAAAA", 1.5, "AAAA")


@guest_case("GUEST-PENALTY-005", "penalty.off", "1 is what clients send when they want it off")
def test_1_is_off(guest: GuestSubject) -> None:
    """A penalty of 1 changes nothing."""
    check_text(guest, {"A": 2.0, "B": 1.99999}, "A", 1.0, "AAA")
    follows(guest, row({"A": 3.0, "B": 0.5}), prompt="AB", repetition_penalty=1.0)


@guest_case("GUEST-PENALTY-006", "penalty.generated", "below 1 it is a reward")
def test_below_1_it_favours(guest: GuestSubject) -> None:
    """A penalty below 1 makes tokens of the context more likely."""
    check_text(guest, {"A": 1.0, "B": 1.2}, "A", 0.5, "AA")


@guest_case("GUEST-PENALTY-007", "penalty.sampled", "most requests are sampled")
def test_it_holds_for_samples(guest: GuestSubject) -> None:
    """Samples follow the softmax of the penalised logits."""
    values = row({"A": 4.0, "B": 1.0, "C": -1.0})
    penalised = row({"A": 2.0, "B": 0.5, "C": -2.0})
    # All three stand in the prompt, so the distribution is the same at every position.
    follows(guest, values, softmax(penalised, 1.0), prompt="ABC", repetition_penalty=2.0)
