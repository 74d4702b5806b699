"""`realm score --host`: the host suite against the healthy MockHost and its planted defects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from realm_mocks.host.defects import HostDefect, host_defects
from realm_mocks.host.probed import mock_host

from realm_harness.case import Case
from realm_harness.conform import run_cases
from realm_harness.hostsuite.conform import open_host
from realm_harness.hostsuite.host import HostUnavailable
from realm_harness.hostsuite.local import Factory, LocalLauncher
from realm_harness.hostsuite.subject import Settings
from realm_harness.results import CaseResult
from realm_harness.score import DefectScore, Score

SETTINGS = Settings(calls=3000)
PATIENCE = 3.0
"""Seconds after which a planted hang counts as one."""


SLOW = frozenset(
    (
        *("HOST-ISOLATE-001", "HOST-ISOLATE-003", "HOST-LOAD-014", "HOST-CONTAIN-001"),
        *("HOST-CONTAIN-007", "HOST-CONTAIN-008", "HOST-CONTAIN-011"),
    )
)
"""Cases that take seconds: they run on the healthy host and on the defects that are theirs to catch."""


def run_against(factory: Factory, name: str, cases: Iterable[Case]) -> list[CaseResult]:
    """Runs cases against a host in this process. HostUnavailable if it does not serve a probe at all."""
    with open_host(LocalLauncher(name, factory, PATIENCE), SETTINGS) as subject:
        return run_cases(cases, subject).results


def score_host_defect(defect: HostDefect, cases: Sequence[Case]) -> DefectScore:
    """What the cases make of one defect; a host that cannot even begin is caught by all of them."""
    chosen = [case for case in cases if case.id not in SLOW or fnmatchcase(case.id, defect.claim)]
    try:
        results = run_against(defect.host, defect.id, chosen)
    except HostUnavailable:
        return DefectScore(defect, {case.id: "failed" for case in chosen})
    return DefectScore(defect, {result.case.id: result.verdict for result in results})


def score_hosts(
    cases: Sequence[Case],
    defects: Iterable[HostDefect] | None = None,
    progress: Callable[[DefectScore], None] = lambda score: None,
) -> Score:
    """Scores the cases; `progress` is called for each defect, in order."""
    healthy = run_against(mock_host, "the healthy MockHost", cases)
    scores = []
    for defect in host_defects().values() if defects is None else defects:
        scores.append(score_host_defect(defect, cases))
        progress(scores[-1])
    return Score(cases, healthy, scores)
