"""Running cases against whatever is under test: the verdict on one case, and the whole run."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

from realm_harness.case import Broken, Case, Unjudged, Unsupported
from realm_harness.results import CaseResult, Evidence, Facts, RunResult

INTERNAL = "the harness itself failed"
"""How the message of a case begins that could not cope with what it saw."""

Progress = Callable[[CaseResult], None]


class Subject(Protocol):
    """What cases are asked of: a server (`Target`), a guest, a host."""

    def begin_case(self) -> None:
        """A case starts: its evidence is its own."""

    def evidence(self, case: Case) -> Evidence:
        """What happened since `begin_case`."""

    @property
    def facts(self) -> Facts:
        """What it is."""


def judge(case: Case, target: Subject) -> CaseResult:
    """Run one case and say what came of it.

    A breach that rests on the target being deterministic has to be seen twice, from the beginning: a server
    whose answers vary for reasons of its own is not accused of what one odd answer seemed to show.
    """
    begun = time.perf_counter()
    verdict, message = _attempt(case, target)
    if case.confirm and verdict in ("failed", "non_strict"):
        again, message_again = _attempt(case, target)
        if again == "ok":
            verdict, message = "informational", f"seen once, not a second time: {message}"
        else:
            verdict, message = again, message_again
    evidence = target.evidence(case)
    return CaseResult(
        case=case,
        verdict=verdict,
        message=message,
        ending=evidence.ending,
        repro=evidence.repro,
        wire=evidence.wire,
        seconds=time.perf_counter() - begun,
    )


def _attempt(case: Case, target: Subject) -> tuple[str, str | None]:
    target.begin_case()
    try:
        case.check(target)
    except Unsupported as reason:
        return "unimplemented", str(reason)
    except Unjudged as reason:
        return "informational", str(reason)
    except Broken as broken:
        return {"MUST": "failed", "SHOULD": "non_strict"}.get(case.level, "informational"), str(broken)
    except Exception as error:  # a fault of ours: it must neither accuse the target nor end the run
        where = traceback.extract_tb(error.__traceback__)[-1]
        return (
            "informational",
            f"{INTERNAL}: {error!r} in {where.name}, line {where.lineno}; please report it",
        )
    return "ok", None


def run_cases(cases: Iterable[Case], target: Subject, progress: Progress = lambda result: None) -> RunResult:
    """Run the cases in order; `progress` is called after each."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    begun = time.perf_counter()
    results: list[CaseResult] = []
    for case in cases:
        result = judge(case, target)
        progress(result)
        results.append(result)
    return RunResult(target.facts, started, time.perf_counter() - begun, results)
