"""Results that cannot be true: a count larger than the room, less written than promised, no handle.

Half of the cases are made from the contract, one for each import whose results a guest can check.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from realm_abi.contract import Function, load_contract
from realm_mocks.host import Fault, Overlong, Return, ShortWrite

from realm_harness.case import Check
from realm_harness.guestsuite.drafting import guessing
from realm_harness.guestsuite.judging import demand_of, kept_rules
from realm_harness.guestsuite.marks import V1, V2, guest_case
from realm_harness.guestsuite.subject import GuestSubject

HUGE = 2**31 - 1
MOST_CALLS = 400

FIXED = {
    "realm_embed_tokens", "realm_forward_layer", "realm_compute_logits", "realm_forward",
    "realm_model_info", "realm_get_model_metadata", "realm_session_open", "realm_encode",
    "realm_encode_tokens", "realm_host_generate",
}  # fmt: skip
"""Imports that never answer 0 to a right call (to an encode 0 says that there is nothing to do)."""

CHECKED = {*FIXED, "realm_decode", "realm_decode_tokens", "realm_draft"}
"""Imports whose largest results cannot be true."""

UNSIZED = {"realm_forward", "realm_session_open"}
"""Those whose result does not count what they wrote."""


def check_lies(guest: GuestSubject, function: str, values: Iterable[int]) -> None:
    """A result that cannot be true ends the request with an error, at the first and at a later call."""
    plain = guessing(guest, function, "abcdef").calls(function)
    for value in values:
        honest = [call.nth for call in plain if call.result != value]
        for nth in honest[:3:2]:
            run = guessing(guest, function, "abcdef", faults=[Fault(Return(value), function, nth)])
            at = next(call.index for call in run.trace if call.faults)
            what = f"{function} answered {value} at its call {nth}"
            demand_of(run, run.fault is None, f"{what}, and the guest broke: {run.fault}", at)
            kept_rules(run)
            demand_of(run, len(run.trace) < MOST_CALLS, f"{what}, and {len(run.trace)} calls were made", at)
            demand_of(run, run.error is not None, f"{what}, and generate answered {run.answer}", at)


def beyond_room(guest: GuestSubject, function: str) -> Iterator[int]:
    """One more than the room that the guest gives the function's answer, for each room that it gives."""
    rooms = {
        window.count
        for call in guessing(guest, function, "abcdef").calls(function)
        for window in call.windows
        if window.direction == "out" and window.count
    }
    yield from (room + 1 for room in sorted(rooms))


def made(function: Function, word: str) -> Check:
    """The case of one import."""

    def check(guest: GuestSubject) -> None:
        if word == "zero":
            check_lies(guest, function.name, [0])
        else:
            beyond = [] if function.name in UNSIZED else beyond_room(guest, function.name)
            check_lies(guest, function.name, [HUGE, *beyond])

    shown = "The result 0" if word == "zero" else "A result larger than the room that the guest gave,"
    check.__doc__ = f"{shown} from {function.name} is an error."
    check.__module__ = __name__
    return check


def install() -> None:
    """Puts the cases into this module, where the suite and pytest find them."""
    for function in load_contract().imports.values():
        for names, word in ((CHECKED, "huge"), (FIXED, "zero")):
            if function.name in names:
                marked = guest_case(
                    f"GUEST-RESULT-{function.name}-{word}",
                    "result.checked",
                    "a guest that believes it reads beyond its buffer",
                    versions=(function.version,),
                    imports=(function.name,),
                )
                globals()[f"test_{function.name}_{word}"] = marked(made(function, word))


install()


@guest_case("GUEST-RESULT-001", "result.short", "the rest of the buffer is old", versions=V1)
def test_short_rows(guest: GuestSubject) -> None:
    """Fewer bytes than promised, from any of the three computing imports, are an error."""
    for function in ("realm_embed_tokens", "realm_forward_layer", "realm_compute_logits"):
        for nth in (1, 2, 3):
            run = guest.run("abc", faults=[Fault(ShortWrite(1), function, nth)])
            what = f"{function} wrote one element at its call {nth} and said so"
            kept_rules(run)
            demand_of(run, run.fault is None, f"{what}, and the guest broke: {run.fault}")
            demand_of(run, run.error is not None, f"{what}, and generate answered {run.answer}")


@guest_case("GUEST-RESULT-002", "result.short", "a token from old logits is a wrong token", versions=V2)
def test_no_logits(guest: GuestSubject) -> None:
    """A realm_forward that says it wrote no row is an error, and no token is sampled."""
    asked = [call.nth for call in guest.run("abcdef").calls("realm_forward") if call.result]
    for nth in asked[:3]:
        run = guest.run("abcdef", faults=[Fault(ShortWrite(0), "realm_forward", nth)])
        what = f"realm_forward wrote no row at its call {nth} and said so"
        at = next(call.index for call in run.trace if call.faults)
        kept_rules(run)
        later = [call for call in run.trace[at + 1 :] if call.function == "realm_emit"]
        demand_of(run, not later, f"{what}, and a token was emitted", at)
        demand_of(run, run.error is not None, f"{what}, and generate answered {run.answer}", at)


@guest_case("GUEST-RESULT-003", "result.checked", "whatever a host does, a guest must end")
def test_one_too_many(guest: GuestSubject) -> None:
    """A result that is a little too large, at any call, never breaks a guest."""
    plain = guest.run("abc", max_tokens=3)
    for nth in range(1, len(plain.trace) + 1):
        for extra in (1, 3000):
            run = guest.run("abc", max_tokens=3, faults=[Fault(Overlong(extra), nth=nth)])
            what = f"call {nth} claimed {extra} more than it wrote"
            demand_of(run, run.fault is None, f"{what}, and the guest broke: {run.fault}", nth - 1)
            demand_of(run, len(run.trace) < MOST_CALLS, f"{what}, and {len(run.trace)} calls were made")
