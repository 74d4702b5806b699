"""What a run was held to, check by check: the page, the step summary and JUnit say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from realm_loadtests.report.text import number
from realm_loadtests.wire.failures import MEANINGS

Outcome = Literal["held", "broken", "unproven"]


@dataclass(frozen=True)
class Check:
    """One thing that a run was held to; `message` is what was seen."""

    name: str
    outcome: Outcome
    message: str


def checks(result: Mapping[str, Any], allowed_errors: float) -> list[Check]:
    """The checks of a load.json's document: requests, each class of failure, each objective, the instrument.

    `allowed_errors` is the share of requests (0 to 1) that may fail. An objective of a run in which the
    generator may have been the bottleneck is unproven, whichever way it went.
    """
    figures = result["figures"]
    completed, failed = figures["completed"], figures["failed"]
    found = [
        Check(
            "requests are completed",
            "held" if completed else "broken",
            f"{completed} of {figures['requests']}",
        )
    ]
    few = (figures["error_rate"] or 0) <= allowed_errors
    for kind, count in figures["errors"].items():
        said = f"{count} of {completed + failed} requests: {meaning(kind)}"
        found.append(Check(f"failures: {kind}", "held" if few else "broken", said))
    limited = result["generator"]["may_be_the_bottleneck"]
    if limited and (result["slo"] or result["arrivals"]):
        found.append(
            Check("the generator is not the bottleneck", "unproven", limitation(result["generator"]))
        )
    for verdict in result["slo"]:
        outcome: Outcome = "unproven" if limited else "held" if verdict["met"] else "broken"
        found.append(Check(f"SLO {verdict['objective']}", outcome, f"seen: {number(verdict['value'])}"))
    return found


def headline(found: Sequence[Check]) -> tuple[Outcome, str]:
    """A run's outcome, in the order of its exit codes, and the words for it."""
    failing = [check for check in found if check.outcome == "broken" and not check.name.startswith("SLO ")]
    objectives = [check for check in found if check.name.startswith("SLO ")]
    if failing:
        return "broken", "Requests failed"
    if any(check.outcome == "unproven" for check in found):
        return "unproven", "Client-limited: the figures prove nothing of the server"
    missed = sum(check.outcome == "broken" for check in objectives)
    if missed:
        return "broken", f"{missed} of {len(objectives)} objectives missed"
    if objectives:
        return "held", "Every objective met" if len(objectives) > 1 else "The objective was met"
    return "held", "Measured: no objective was set"


def meaning(kind: str) -> str:
    """A class of failures in words."""
    return MEANINGS.get(kind) or f"the server answered with the status {kind.removeprefix('http_')}"


def limitation(generator: Mapping[str, Any]) -> str:
    """Why the generator may have been the bottleneck."""
    lag, share = number(generator["lag_ms"]["p99"]), generator["cpu_share"] or 0
    return f"the generator woke up to {lag} ms late (p99) and used {share:.0%} of its CPU"
