"""What a case demands of a run, and how it says what was wrong to somebody who wrote the guest elsewhere."""

from __future__ import annotations

from collections.abc import Collection

from realm_abi.errors import ErrorCode
from realm_mocks.host import RULES, Finding, Run

from realm_harness.case import Broken, Unsupported

BEFORE, AFTER = 4, 2
"""Calls that are shown before and after the one in question."""


def seen(run: Run, what: str, at: int | None = None) -> str:
    """What was seen, with the calls round number `at` (or the last ones) and how `generate` ended."""
    count = len(run.trace)
    middle = count - 1 if at is None else min(at, count - 1)
    near = run.trace[max(0, middle - BEFORE) : middle + AFTER + 1]
    lines = [f"{'->' if at == call.index else '  '} {call}" for call in near]
    if middle + AFTER + 1 >= count:
        lines.append(f"   generate answered: {run.answer}")
    return "\n           ".join([what, *lines])


def demand_of(run: Run, condition: object, what: str, at: int | None = None) -> None:
    """Broken unless the condition holds."""
    if not condition:
        raise Broken(seen(run, what, at))


def kept_rules(run: Run, *, but: Collection[str] = ()) -> Run:
    """The run, unless it broke a rule that holds for every run, but these. It may have failed."""
    for finding in run.findings:
        if finding.rule not in but:
            raise Broken(told(run, finding))
    return run


def told(run: Run, finding: Finding) -> str:
    """A finding in words, with the calls round it."""
    what = f"{finding.message}; the rule: {RULES[finding.rule]} [{finding.rule}]"
    return seen(run, what, finding.call)


def well(run: Run) -> Run:
    """The run, if it finished and broke no rule."""
    if run.fault:
        raise Broken(seen(run, f"the guest broke: {run.fault}"))
    kept_rules(run)
    if run.error:
        raise Broken(seen(run, f"generate answered {run.answer}, {_reason(run)}"))
    return run


def _reason(run: Run) -> str:
    """Where an error that was not due came from."""
    refused = [call for call in run.trace if call.result == run.error]
    if not refused:
        return "though no host call had failed"
    return f"after {refused[-1].function} had answered it; this request was due to go well"


def offered(run: Run) -> Run:
    """As `well`, of a request that a guest may decline: Unsupported if it says so before it begins."""
    if declined(run):
        raise Unsupported(f"the guest declines the request: it answers {run.answer} before it computes")
    return well(run)


def failed(run: Run, *codes: ErrorCode, to: str = "") -> Run:
    """The run, if it ended with one of these errors (any, if none is named) and broke no rule.

    `to` says what in the request made the error due.
    """
    if run.fault:
        raise Broken(seen(run, f"the guest broke: {run.fault}"))
    kept_rules(run)
    names = " or ".join(code.name for code in codes) or "an error"
    if run.error is None or (codes and run.error not in codes):
        asked = f" to {to}" if to else ""
        raise Broken(seen(run, f"generate answered {run.answer}{asked}; due was {names}"))
    return run


def declined(run: Run) -> bool:
    """Whether the guest refused the request because it has no code for it, before it began.

    A v1 guest has no way to say why; one that answers 0 though nothing failed, and has computed nothing, is
    taken to mean that.
    """
    began = {"realm_session_open", "realm_embed_tokens", "realm_stream_token", "realm_host_generate"}
    if not began.isdisjoint(run.trace.names) or any(call.error for call in run.trace):
        return False
    v1 = "realm_get_model_metadata" in run.trace.counts or "realm_encode_tokens" in run.trace.counts
    return run.error is ErrorCode.unsupported or (v1 and run.error is ErrorCode.internal)
