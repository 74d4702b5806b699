"""How long a text gets: max_tokens, the context, and a model that has nothing to say."""

from __future__ import annotations

from realm_abi.errors import FinishReason
from realm_mocks.host import Run, winners

from realm_harness.guestsuite.judging import demand_of, well
from realm_harness.guestsuite.marks import V2, guest_case
from realm_harness.guestsuite.subject import VOCABULARY, GuestSubject

ENDLESS = winners("", VOCABULARY, afterwards=ord("A"))
COMPUTE = {"realm_forward", "realm_embed_tokens", "realm_compute_logits", "realm_session_open"}


def check_reason(run: Run, reason: FinishReason) -> None:
    """A v2 guest answers this reason; v1 has none."""
    due = run.reason in (None, reason)
    demand_of(run, due, f"generate answered {run.answer}; due was reason {reason.name}")


@guest_case("GUEST-LENGTH-001", "length.max-tokens", "tokens are paid for")
def test_max_tokens(guest: GuestSubject) -> None:
    """max_tokens is how many tokens a text has at most, and it has them if nothing else ends it."""
    for limit in (1, 2, 3, 7, 8, 9, 20):
        run = well(guest.run(ENDLESS, max_tokens=limit))
        demand_of(run, run.text == "A" * limit, f"with max_tokens={limit} the text is {run.text!r}")
        check_reason(run, FinishReason.max_tokens)


@guest_case("GUEST-LENGTH-002", "length.zero", "it is how clients count a prompt", imports=())
def test_none(guest: GuestSubject) -> None:
    """max_tokens 0 generates nothing and is no error."""
    run = well(guest.run("abc", max_tokens=0))
    demand_of(run, not run.texts, f"with max_tokens=0 it hands on {run.texts}")
    check_reason(run, FinishReason.max_tokens)


@guest_case("GUEST-LENGTH-003", "length.zero-frugal", "a count needs no model", versions=V2)
def test_none_computes_nothing(guest: GuestSubject) -> None:
    """max_tokens 0 encodes the prompt and opens no session."""
    run = well(guest.run("abc", max_tokens=0))
    called = COMPUTE & set(run.trace.names)
    demand_of(run, not called, f"with max_tokens=0 it calls {sorted(called)}")
    demand_of(run, "realm_encode" in run.trace.counts, "with max_tokens=0 it does not encode the prompt")


@guest_case("GUEST-LENGTH-004", "length.stop-first", "some prompts have no answer")
def test_nothing_to_say(guest: GuestSubject) -> None:
    """A stop token first is an empty text."""
    for limit in (1, 5):
        run = well(guest.run("", max_tokens=limit))
        demand_of(run, run.text == "", f"the model said nothing, the guest {run.text!r}")
        check_reason(run, FinishReason.stop_token)


@guest_case("GUEST-LENGTH-005", "length.stop-last", "a stop token is not one of max_tokens")
def test_a_stop_token_at_the_end(guest: GuestSubject) -> None:
    """A stop token as the last one allowed ends the text as a stop token."""
    run = well(guest.run("abc", max_tokens=4))
    demand_of(run, run.text == "abc", f"the text is {run.text!r}; due was 'abc'")
    check_reason(run, FinishReason.stop_token)


@guest_case("GUEST-LENGTH-006", "length.huge", "clients that want no limit send the largest number")
def test_no_limit(guest: GuestSubject) -> None:
    """The largest max_tokens there is ends nothing early."""
    for limit in (2**31 - 1, 2**31, 2**32 - 1):
        run = well(guest.run("abcdefgh", max_tokens=limit))
        demand_of(run, run.text == "abcdefgh", f"with max_tokens={limit} the text is {run.text!r}")


@guest_case("GUEST-LENGTH-007", "length.context", "a text that meets the context's end is cut, not broken")
def test_the_context_ends(guest: GuestSubject) -> None:
    """The last token is the one sampled when the context is full, and the reason is max_tokens."""
    for prompt in ("abcd", ""):
        room = 17 - len(VOCABULARY.encode(prompt, add_bos=True))
        run = well(guest.run(ENDLESS, prompt, context_length=16, max_tokens=100))
        count = len(run.text)
        what = f"a prompt of {17 - room} tokens in a context of 16 got {count} tokens; due were {room}"
        demand_of(run, count == room, what)
        check_reason(run, FinishReason.max_tokens)


@guest_case("GUEST-LENGTH-008", "length.context", "both limits at once are one limit")
def test_max_tokens_at_the_contexts_end(guest: GuestSubject) -> None:
    """max_tokens that ends with the context, or one before it, ends there."""
    for limit in (11, 12):
        run = well(guest.run(ENDLESS, "abcd", context_length=16, max_tokens=limit))
        demand_of(run, len(run.text) == limit, f"with max_tokens={limit} it says {len(run.text)} tokens")
        check_reason(run, FinishReason.max_tokens)
