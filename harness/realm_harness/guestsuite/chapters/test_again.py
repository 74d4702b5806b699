"""One instance, several requests: what was asked before does not show."""

from __future__ import annotations

from typing import Any

from realm_abi.errors import ErrorCode
from realm_mocks.host import Cancel, Fault, Fixed, Hashed, Overlong, Return, Run, Step, Stop

from realm_harness.guestsuite.drawing import row
from realm_harness.guestsuite.judging import demand_of, offered, well
from realm_harness.guestsuite.marks import V2, guest_case
from realm_harness.guestsuite.subject import GuestSubject

REPEATED = {
    1: ("realm_embed_tokens", "realm_forward_layer", "realm_decode_tokens", "realm_stream_token"),
    2: ("realm_forward", "realm_decode", "realm_emit"),
}
EMITS = {1: "realm_stream_token", 2: "realm_emit"}
LONG = "a longer text, of many tokens"


def shape(run: Run) -> list[tuple[object, ...]]:
    """What a run did, without what the host chose (handles) or the guest may choose (offsets)."""
    return [(call.function, call.ids, call.text, call.result and call.result < 0) for call in run.trace]


def check_same(fresh: Run, again: Run, after: str) -> None:
    """A request says and does what it does in a fresh instance."""
    same = again.texts == fresh.texts and again.tokens == fresh.tokens
    demand_of(again, same, f"after {after} it says {again.texts}; in a fresh instance {fresh.texts}")
    demand_of(again, shape(again) == shape(fresh), f"after {after} it makes other calls than alone")


@guest_case("GUEST-AGAIN-001", "again.same", "instances are kept, because starting one costs time")
def test_after_a_good_request(guest: GuestSubject) -> None:
    """The second request is answered as if it were the first, and so is the tenth."""
    fresh = well(guest.run(Hashed(2), "second", max_tokens=5))
    with guest.instance(Hashed(2)) as requests:
        for number, prompt in enumerate(("first, a longer one", "x", "") * 3, 2):
            well(requests.run(prompt, max_tokens=9))
            check_same(fresh, well(requests.run("second", max_tokens=5)), f"{number} requests")


@guest_case("GUEST-AGAIN-002", "again.after-error", "the next request is another tenant's user's")
def test_after_an_error(guest: GuestSubject) -> None:
    """After a request that an error ended, wherever, the next one is answered as if it were the first."""
    fresh = well(guest.run(LONG, "p", max_tokens=2))
    for function in REPEATED[guest.version]:
        nth = well(guest.run(LONG, "a prompt")).trace.counts[function]
        for action in (Return(ErrorCode.internal), Cancel()):
            with guest.instance(LONG, faults=[Fault(action, function, nth)]) as requests:
                requests.run("a prompt")
                what = f"{action} at call {nth} of {function}"
                check_same(fresh, well(requests.run("p", max_tokens=2)), what)


@guest_case("GUEST-AGAIN-003", "again.after-error", "the next request is another tenant's user's")
def test_after_a_stop(guest: GuestSubject) -> None:
    """After a request that was asked to stop, the next one is answered as if it were the first."""
    fresh = well(guest.run(LONG, "p", max_tokens=2))
    with guest.instance(LONG, faults=[Fault(Stop(), EMITS[guest.version], 5)]) as requests:
        requests.run("a prompt")
        check_same(fresh, well(requests.run("p", max_tokens=2)), "a request that was asked to stop")


@guest_case("GUEST-AGAIN-004", "again.text", "half a character of one user in the text of another")
def test_half_a_character_does_not_stay(guest: GuestSubject) -> None:
    """Half a character that a request held back when it ended does not show in the next."""
    steps: list[Step] = ["a", "b", "c", b"\xf0\x9f", b"\xa6\x80"]
    fresh = well(guest.run(steps, "p", max_tokens=2))
    for action in (Stop(), Return(ErrorCode.limit_exceeded)):
        with guest.instance(steps, faults=[Fault(action, EMITS[guest.version], 4)]) as requests:
            requests.run("a prompt")
            check_same(fresh, well(requests.run("p", max_tokens=2)), f"{action} in half a character")


@guest_case("GUEST-AGAIN-005", "again.text", "text of one user in the text of another", versions=V2)
def test_text_held_back_does_not_stay(guest: GuestSubject) -> None:
    """Text that a request held back for its stop string does not show in the next, nor does the string."""
    steps: list[Step] = ["a", "b", "c", "st", "op"]
    fresh = well(guest.run(steps, "p", max_tokens=3))
    with guest.instance(steps, faults=[Fault(Stop(), "realm_emit", 4)]) as requests:
        offered(requests.run("a prompt", stop_strings=["stop", "cstx"]))
        check_same(fresh, well(requests.run("p", max_tokens=3)), "a request with a stop string")
    whole = well(guest.run(steps, "p"))
    with guest.instance(steps) as requests:
        offered(requests.run("a prompt", stop_strings=["stop"]))
        check_same(whole, well(requests.run("p")), "a request with the stop string 'stop'")


@guest_case("GUEST-AGAIN-006", "again.context", "what one user asked for is not the next one's context")
def test_the_penalised_context_does_not_stay(guest: GuestSubject) -> None:
    """Tokens of one request are not penalised in the next."""
    script = Fixed(row({"A": 2.0, "B": 1.9}))
    with guest.instance(script) as requests:
        offered(requests.run("AB", max_tokens=3, repetition_penalty=1.5))
        run = offered(requests.run("p", max_tokens=1, repetition_penalty=1.5))
        again = offered(requests.run("A", max_tokens=1, repetition_penalty=1.5))
    demand_of(run, run.text == "A", f"after a prompt with 'A' another's text is {run.text!r}, not 'A'")
    demand_of(again, again.text == "B", f"asked 'A' again its text is {again.text!r}; due was 'B'")


@guest_case("GUEST-AGAIN-007", "again.options", "options are a request's")
def test_options_do_not_stay(guest: GuestSubject) -> None:
    """Options of one request do not hold for the next."""
    script = Fixed(row({"A": 2.0, "B": 1.9, "C": 1.8}))
    plain: dict[str, Any] = {"max_tokens": 4}
    fresh = well(guest.run(script, "p", **plain))
    with guest.instance(script) as requests:
        offered(requests.run("p", max_tokens=9, temperature=2.0, seed=8, top_k=2, repetition_penalty=1.5))
        check_same(fresh, well(requests.run("p", **plain)), "a request that was sampled")
        well(requests.run("p", max_tokens=9, stop_tokens=(65,)))
        check_same(fresh, well(requests.run("p", **plain)), "a request with the stop token 'A'")


@guest_case("GUEST-AGAIN-008", "again.after-error", "a host that lied once may be right the next time")
def test_after_a_lie(guest: GuestSubject) -> None:
    """After a request in which a result was nonsense the next one is answered as if it were the first."""
    fresh = well(guest.run(LONG, "p", max_tokens=2))
    for function in REPEATED[guest.version]:
        nth = well(guest.run(LONG, "a prompt")).trace.counts[function]
        with guest.instance(LONG, faults=[Fault(Overlong(1 << 20), function, nth)]) as requests:
            if requests.run("a prompt").fault is None:
                check_same(fresh, well(requests.run("p", max_tokens=2)), f"a lie of {function}")
