"""Errors of host calls: each code from each import, at the first, the second and the last call.

The cases are made from the contract: one for each import and place. A case tries all codes.
"""

from __future__ import annotations

from realm_abi.contract import load_contract
from realm_abi.errors import ErrorCode
from realm_mocks.host import Fault, Return, Run
from realm_mocks.host.findings import RECOVERABLE

from realm_harness.case import Check, Unjudged
from realm_harness.guestsuite.drafting import guessing
from realm_harness.guestsuite.judging import demand_of, failed, kept_rules, well
from realm_harness.guestsuite.marks import V2, guest_case
from realm_harness.guestsuite.subject import GuestSubject

PER_TOKEN = {
    "realm_embed_tokens", "realm_forward_layer", "realm_compute_logits", "realm_decode_tokens",
    "realm_stream_token", "realm_forward", "realm_decode", "realm_emit",
}  # fmt: skip
"""Imports that a loop calls again and again; the others have one place, every call of them."""

PROMPT = "prompt"
SCRIPT = "abc"
MOST_CALLS = 3

FREE = "realm_session_free"


def ends_as(code: ErrorCode, function: str) -> tuple[ErrorCode, ...] | None:
    """The errors that generate may answer after this one; None where it may go on as well."""
    if (function, code) in RECOVERABLE or (code is ErrorCode.context_full and function in LOOP_CALLS):
        return None
    return (code,)


LOOP_CALLS = {"realm_forward", "realm_embed_tokens", "realm_forward_layer", "realm_compute_logits"}
"""Where context_full, once there are tokens, may mean that the text ends, as max_tokens ends it."""

HANDS_ON = {"realm_emit", "realm_stream_token"}


def check_error(guest: GuestSubject, function: str, nth: int) -> None:
    """Every code of the n-th call of a function ends the request as it should."""
    for code in ErrorCode:
        run = guessing(guest, function, SCRIPT, PROMPT, faults=[Fault(Return(code), function, nth)])
        due = ends_as(code, function)
        what = f"{function} answered {code.name} at its call {nth}"
        if due is not None:
            check_end(run, code, what)
        else:
            kept_rules(run)
            demand_of(run, run.fault is None, f"{what}, and the guest broke: {run.fault}")
            begun = code is not ErrorCode.context_full or not HANDS_ON.isdisjoint(run.trace.names)
            fine = run.error is code or (begun and run.error is None)
            demand_of(run, fine, f"{what}, and generate answered {run.answer}")


def check_end(run: Run, code: ErrorCode, what: str) -> None:
    """The request ended with that error, and after the call nothing was done but cleanup."""
    at = next(call.index for call in run.trace if call.faults)
    demand_of(run, run.fault is None, f"{what}, and the guest broke: {run.fault}", at)
    later = [call for call in run.trace[at + 1 :] if call.function != FREE]
    demand_of(run, not later, f"{what}, and the guest went on", at)
    demand_of(run, run.error is code, f"{what}, and generate answered {run.answer}", at)
    kept_rules(run)


def places(count: int) -> dict[str, int]:
    """The calls to spoil, by name, of a function that is called `count` times."""
    return {"first": 1, "second": 2, "last": count}


def made(function: str, place: str) -> Check:
    """The case of one import and place."""

    def check(guest: GuestSubject) -> None:
        count = well(guessing(guest, function, SCRIPT, PROMPT)).trace.counts[function]
        if not count:
            raise Unjudged(f"this guest imports {function} and does not call it where it has to")
        if place != "each":
            check_error(guest, function, min(places(count)[place], count))
            return
        for nth in range(1, min(count, MOST_CALLS) + 1):
            check_error(guest, function, nth)

    where = "any call" if place == "each" else f"the {place} call"
    check.__doc__ = f"An error of {where} of {function} ends the request, with its code unchanged."
    check.__module__ = __name__
    return check


def install() -> None:
    """Puts a case for each import and place into this module, where the suite and pytest find them."""
    for function in load_contract().imports.values():
        for place in ("first", "second", "last") if function.name in PER_TOKEN else ("each",):
            case_id = f"GUEST-FAULT-{function.name}-{place}"
            marked = guest_case(
                case_id,
                "fault.cleanup" if function.cleanup else "fault.ends",
                "what is computed on after an error is wrong, or another's",
                versions=(function.version,),
                imports=(function.name,),
            )
            name = f"test_{function.name}_{place}"
            globals()[name] = marked(made(function.name, place))


install()


@guest_case("GUEST-FAULT-001", "fault.asks-again", "a text may have more tokens than bytes", versions=V2)
def test_encode_is_asked_again(guest: GuestSubject) -> None:
    """After buffer_too_small from realm_encode a guest asks again with more room."""
    first = well(guest.run(SCRIPT, PROMPT)).calls("realm_encode")[0]
    if not first.arguments["cap"]:
        raise Unjudged("this guest asks for the number of tokens before it makes room for them")
    run = guest.run(SCRIPT, PROMPT, faults=[Fault(Return(ErrorCode.buffer_too_small), "realm_encode")])
    demand_of(run, well(run).text == SCRIPT, f"the text is {run.text!r}; due was {SCRIPT!r}")


@guest_case("GUEST-FAULT-002", "fault.prompt-too-long", "half a prompt is another prompt", versions=V2)
def test_a_full_context_in_the_prompt_is_an_error(guest: GuestSubject) -> None:
    """context_full while the prompt is fed is what generate answers."""
    fault = Fault(Return(ErrorCode.context_full), "realm_forward")
    run = guest.run(SCRIPT, "a prompt of some length", faults=[fault])
    failed(run, ErrorCode.context_full)
