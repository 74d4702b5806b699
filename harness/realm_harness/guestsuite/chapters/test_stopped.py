"""Asked to stop, and cancelled."""

from __future__ import annotations

from realm_abi.errors import ErrorCode
from realm_mocks.host import Cancel, Fault, Stop

from realm_harness.case import Broken
from realm_harness.guestsuite.judging import demand_of, failed, kept_rules, seen, well
from realm_harness.guestsuite.marks import V2, guest_case
from realm_harness.guestsuite.subject import GuestSubject

EMITS = {1: "realm_stream_token", 2: "realm_emit"}
FREE = "realm_session_free"


def check_stopped(guest: GuestSubject, nth: int) -> None:
    """Asked to stop with its n-th token, a guest makes no other call and is content."""
    function = EMITS[guest.version]
    run = guest.run("abcdef", faults=[Fault(Stop(), function, nth)])
    kept_rules(run)
    if not run.ok:
        raise Broken(seen(run, f"asked to stop at token {nth}, generate answered {run.answer}"))
    count = run.trace.counts[function]
    demand_of(run, count == nth, f"asked to stop at token {nth}, it handed on {count}")
    demand_of(run, run.text == "abcdef"[:nth], f"asked to stop at token {nth} the text is {run.text!r}")


@guest_case("GUEST-STOPPED-001", "stopped.at-once", "nobody reads any more")
def test_at_the_first_token(guest: GuestSubject) -> None:
    """Asked to stop with the first token, a guest returns at once, without an error."""
    check_stopped(guest, 1)


@guest_case("GUEST-STOPPED-002", "stopped.at-once", "nobody reads any more")
def test_in_the_middle(guest: GuestSubject) -> None:
    """Asked to stop in the middle of a text, a guest returns at once, without an error."""
    for nth in (2, 4):
        check_stopped(guest, nth)


@guest_case("GUEST-STOPPED-003", "stopped.reason", "an answer that was cut is not complete", versions=V2)
def test_the_reason(guest: GuestSubject) -> None:
    """Asked to stop, generate answers the reason stopped."""
    run = kept_rules(guest.run("abcdef", faults=[Fault(Stop(), "realm_emit", 3)]))
    reason = run.reason.name if run.reason is not None else str(run.answer)
    demand_of(run, reason == "stopped", f"asked to stop, generate answered {reason}; due was stopped")


@guest_case("GUEST-STOPPED-004", "stopped.at-once", "a stop and an end may meet")
def test_with_the_last_token(guest: GuestSubject) -> None:
    """Asked to stop with the last token of a text, a guest ends as well."""
    run = guest.run("abc", max_tokens=3, faults=[Fault(Stop(), EMITS[guest.version], 3)])
    kept_rules(run)
    demand_of(run, run.ok, f"asked to stop at its last token, generate answered {run.answer}")


@guest_case("GUEST-STOPPED-005", "stopped.cancelled", "a connection closes at any moment", imports=())
def test_cancelled_anywhere(guest: GuestSubject) -> None:
    """Cancelled at any host call, a guest calls nothing but realm_session_free and answers `cancelled`."""
    calls = [call.function for call in well(guest.run("abc")).trace]
    for nth, function in enumerate(calls, 1):
        if function == FREE:
            continue
        run = guest.run("abc", faults=[Fault(Cancel(), nth=nth)])
        failed(run, ErrorCode.cancelled, to=f"a cancellation at call #{nth - 1}, {function}")
        later = [name for name in run.trace.names[nth:] if name != FREE]
        demand_of(run, not later, f"cancelled at {function}, it goes on with {later}", nth - 1)


@guest_case("GUEST-STOPPED-006", "stopped.cancelled", "a prompt of a minute is cancelled in it", versions=V2)
def test_cancelled_in_the_prompt(guest: GuestSubject) -> None:
    """Cancelled between two chunks of the prompt, a guest feeds no further one."""
    run = guest.run("abc", "x" * 40, faults=[Fault(Cancel(), "realm_forward", 2)], prefill_chunk=8)
    failed(run, ErrorCode.cancelled)
    count = run.trace.counts["realm_forward"]
    demand_of(run, count == 2, f"cancelled at its second realm_forward, it made {count}")
