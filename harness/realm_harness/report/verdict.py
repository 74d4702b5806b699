"""What a run means: one verdict, its exit code, and the sentences that say it to a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from realm_harness.report.model import Case, Load, Run

State = Literal["pass", "fail", "incomplete"]
EXIT_CODES: dict[State, int] = {"pass": 0, "fail": 1, "incomplete": 2}


@dataclass(frozen=True)
class Gate:
    """One condition that the load test must meet; `message` says what was seen when it does not."""

    id: str
    title: str
    held: bool
    message: str


@dataclass(frozen=True)
class Verdict:
    """The run's verdict: `headline` in a few words, `sentences` with the counts behind it."""

    state: State
    headline: str
    sentences: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 all well, 1 the target broke its contract, 2 not everything could be measured."""
        return EXIT_CODES[self.state]


def broken_cases(run: Run) -> tuple[Case, ...]:
    """The cases that fail the run: broken MUSTs, and broken SHOULDs where the run is strict about them."""
    counted = ("failed", "non_strict") if run.strict_should else ("failed",)
    return tuple(
        case for case in (run.conformance.cases if run.conformance else ()) if case.verdict in counted
    )


def load_gates(load: Load) -> tuple[Gate, ...]:
    """The conditions on a load test; latencies are not judged, for no threshold suits every machine."""
    errors = ", ".join(f"{name} x{count}" for name, count in load.errors.items())
    first_token = load.latencies.get("ttft_ms")
    return (
        Gate(
            "LOAD-COMPLETED",
            "Requests complete under load",
            load.completed > 0,
            f"none of {load.requests} requests completed",
        ),
        Gate(
            "LOAD-ERRORS",
            "No request fails under load",
            load.failed == 0 and not any(load.errors.values()),
            f"{load.failed} of {load.requests} requests failed: {errors or 'no error class recorded'}",
        ),
        Gate(
            "LOAD-TOKENS",
            "Tokens arrive under load",
            bool(load.tokens_per_second) and first_token is not None and first_token.count > 0,
            "no token was received",
        ),
    )


def missing_parts(run: Run) -> tuple[str, ...]:
    """Reasons why the run does not prove what it should; an absent or empty part never counts as passed."""
    reasons = list(run.problems)
    if run.conformance is None and not reasons:
        reasons.append("there are no conformance results")
    elif run.conformance and not run.conformance.count("ok"):
        reasons.append("no conformance case was passed, so nothing is proven")
    if run.load_wanted and run.load is None and not run.problems:
        reasons.append("there are no load figures")
    return tuple(dict.fromkeys(reasons))


def judge(run: Run) -> Verdict:
    """The verdict. Evidence against the target weighs more than a missing part: 1 before 2."""
    broken = broken_cases(run)
    failed_gates = [gate for gate in load_gates(run.load) if not gate.held] if run.load else []
    sentences = tuple(_sentences(run))
    if run.target_died:
        return Verdict("fail", "The server died during the test", sentences)
    if broken:
        clauses = len({case.clause.id for case in broken})
        contract = "1 clause is broken" if clauses == 1 else f"{clauses} clauses are broken"
        return Verdict("fail", f"Does not conform: {contract}", sentences)
    if failed_gates:
        return Verdict("fail", "Conforms, but fails under load", sentences)
    if missing_parts(run):
        return Verdict("incomplete", "Incomplete: not everything could be measured", sentences)
    return Verdict("pass", "Conforms" if run.load is None else "Conforms, also under load", sentences)


def _sentences(run: Run) -> Iterator[str]:
    if run.target_died:
        yield f"{run.target_died}."
    if run.conformance:
        cases = run.conformance.cases
        musts = [case for case in cases if case.level == "MUST" and case.verdict in ("ok", "failed")]
        broken = sum(case.verdict == "failed" for case in musts)
        yield (
            f"{len(cases)} conformance cases: "
            + (
                f"{broken} of {len(musts)} MUST cases failed"
                if broken
                else f"all {len(musts)} MUST cases passed"
            )
            + _rest(run)
        )
    if run.load:
        load = run.load
        failures = f"{load.failed} failed" if load.failed else "none failed"
        yield f"{load.requests:,} requests under load, {failures}."
    for reason in missing_parts(run):
        yield f"Not measured: {reason.rstrip('.')}."


def _rest(run: Run) -> str:
    """The counts that break nothing, as the end of a sentence."""
    assert run.conformance is not None
    weak = run.conformance.count("non_strict")
    counts = {
        "SHOULD case failed" if weak == 1 else "SHOULD cases failed": weak,
        "not implemented": run.conformance.count("unimplemented"),
        "informational": run.conformance.count("informational"),
    }
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    return ("; " + ", ".join(parts) if parts else "") + "."
