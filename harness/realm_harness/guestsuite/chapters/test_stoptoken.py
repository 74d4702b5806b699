"""Stop tokens: which end a text, and what is handed on of them."""

from __future__ import annotations

from typing import Any

from realm_abi.errors import FinishReason
from realm_mocks.host import winners

from realm_harness.guestsuite.judging import demand_of, well
from realm_harness.guestsuite.marks import V2, guest_case
from realm_harness.guestsuite.subject import VOCABULARY, GuestSubject

EOS, END = VOCABULARY.eos_ids
A, B, C = b"abc"
STEPS = winners(["a", (B,), "c", (C,), "a"], VOCABULARY, afterwards=ord("z"))


def stopping(guest: GuestSubject, *tokens: int) -> dict[str, Any]:
    """Options under which only these tokens end a text."""
    options: dict[str, Any] = {"stop_tokens": tokens, "max_tokens": 8}
    return options | {"ignore_eos": True} if guest.version == 2 else options


@guest_case("GUEST-STOPTOKEN-001", "stop.token", "the model says that it is done")
def test_it_ends_the_text(guest: GuestSubject) -> None:
    """A stop token ends the text, and is not in it."""
    run = well(guest.run(STEPS, **stopping(guest, B)))
    demand_of(run, run.text == "a", f"with the stop token 'b' the text of 'abcca...' is {run.text!r}")


@guest_case("GUEST-STOPTOKEN-002", "stop.token", "chat models have several ends")
def test_any_of_a_list(guest: GuestSubject) -> None:
    """Every token of the list ends the text, the first and the last one too."""
    for tokens in ((C, 1, 2), (1, C, 2), (1, 2, C), (*range(1, 96), C)):
        run = well(guest.run(STEPS, **stopping(guest, *tokens)))
        demand_of(run, run.text == "ab", f"with stop tokens {tokens} the text is {run.text!r}; due was 'ab'")


@guest_case("GUEST-STOPTOKEN-003", "stop.token", "a count that is read as a signed byte is negative")
def test_as_many_as_there_can_be(guest: GuestSubject) -> None:
    """255 stop tokens are as good as one."""
    tokens = (*range(100, 100 + 150), *range(1, 97), C, *range(250, 258))
    assert len(tokens) == 255
    run = well(guest.run(STEPS, **stopping(guest, *tokens)))
    demand_of(run, run.text == "ab", f"with 255 stop tokens the text is {run.text!r}; due was 'ab'")


@guest_case("GUEST-STOPTOKEN-004", "stop.none", "without any a text ends at max_tokens")
def test_none(guest: GuestSubject) -> None:
    """Without stop tokens nothing but max_tokens ends the text."""
    run = well(guest.run(STEPS, **stopping(guest)))
    demand_of(run, run.text == "abccazzz", f"without stop tokens the text is {run.text!r}")


@guest_case("GUEST-STOPTOKEN-005", "stop.emitted", "the host counts tokens by what is emitted", versions=V2)
def test_it_is_emitted_with_its_bit(guest: GuestSubject) -> None:
    """A stop token is emitted once, with the bit stop_token; tokens that end nothing have no bit."""
    run = well(guest.run("ab"))
    emits = [(call.arguments["token"], call.arguments["flags"]) for call in run.calls("realm_emit")]
    due = [(A, 0), (B, 0), (EOS, 1)]
    demand_of(run, emits == due, f"emitted were (token, flags) {emits}; due were {due}")
    demand_of(run, run.reason is FinishReason.stop_token, f"generate answered {run.answer}")


@guest_case(
    "GUEST-STOPTOKEN-006", "stop.eos", "a list of further ends does not replace the model's", versions=V2
)
def test_the_models_own(guest: GuestSubject) -> None:
    """The model's end-of-sequence token ends a text whether it is in the list or not."""
    for tokens in ((), (END,), (EOS,)):
        run = well(guest.run(["a", (EOS,), "b"], stop_tokens=tokens))
        demand_of(run, run.text == "a", f"with stop_tokens {tokens} the EOS did not end it: {run.text!r}")


@guest_case("GUEST-STOPTOKEN-007", "stop.ignore-eos", "load tests need texts of a known length", versions=V2)
def test_ignored(guest: GuestSubject) -> None:
    """With ignore_eos only the list ends a text; an end-of-sequence token is a token without text."""
    run = well(guest.run(["a", (EOS,), "b", (END,)], stop_tokens=(END,), ignore_eos=True))
    demand_of(run, run.tokens == (A, EOS, B), f"with ignore_eos the tokens are {run.tokens}")
    demand_of(run, run.reason is FinishReason.stop_token, f"generate answered {run.answer}")


@guest_case("GUEST-STOPTOKEN-008", "stop.token", "a stop token in the prompt has stopped nothing")
def test_in_the_prompt(guest: GuestSubject) -> None:
    """A stop token in the prompt ends nothing."""
    run = well(guest.run(STEPS, "bc", **stopping(guest, C)))
    demand_of(run, run.text == "ab", f"the text is {run.text!r}; due was 'ab'")
