"""The harness held to account: a healthy server passes, and each planted defect is caught by some case.

Every defect gets a MockServer of its own and a run of the chapters against it. A server that answers at
once makes such a run take half a second. Defects that need a latency to be seen bring one; against them
only the chapters that look at time run, and the matrix says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from realm_mocks.server import DEFECTS, MockServer, Schedule, Variation

from realm_harness.case import Case
from realm_harness.conform import run_cases
from realm_harness.discover import discover
from realm_harness.results import CaseResult

SCHEMA = "realm-score/1"
KEY = "realm-score-key"
"""The servers ask for a key, so that the cases about keys are judged."""

SILENCE = 2.0
"""Seconds after which a planted hang counts as one."""

SOCKET_CHAPTERS = frozenset({"wsauth", "wscalls", "wsanswers", "wsframes"})
TIMED_CHAPTERS = frozenset(
    {"stream", "counts", "concurrency", "batch", "prefix", "cancel", "tenants", "wscalls", "wsanswers"}
)
VISIBLE = Schedule(ttft=0.01, itl=0.02)
"""Slow enough for the cases that a server without latency leaves unjudged."""

CAUGHT = ("failed", "non_strict")
PARALLEL = 6
MASS = 0.25


class Planted(Protocol):
    """A defect that was planted somewhere: in a server, a guest, a host."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def sentence(self) -> str:
        """What is wrong."""

    @property
    def source(self) -> str:
        """Where such a defect was seen."""


@dataclass(frozen=True)
class DefectScore:
    """What the cases made of one planted defect: the verdict of each case that ran, by case id."""

    defect: Planted
    verdicts: Mapping[str, str]

    @property
    def caught_by(self) -> list[str]:
        """The cases that saw it."""
        return [case_id for case_id, verdict in self.verdicts.items() if verdict in CAUGHT]


@dataclass(frozen=True)
class Score:
    """The whole score.

    Attributes:
        cases: all cases that took part.
        healthy: what they made of what has no defect.
        defects: what they made of each defect.
    """

    cases: Sequence[Case]
    healthy: Sequence[CaseResult]
    defects: Sequence[DefectScore]

    @property
    def healthy_failures(self) -> list[CaseResult]:
        """Accusations of what is healthy: each is a defect of the harness."""
        return [result for result in self.healthy if result.verdict in CAUGHT]

    @property
    def unjudged(self) -> list[str]:
        """MUST and SHOULD cases that could not judge even the healthy server."""
        return [
            r.case.id for r in self.healthy if r.verdict not in (*CAUGHT, "ok") and r.case.level != "INFO"
        ]

    @property
    def uncaught(self) -> list[DefectScore]:
        """Defects that no case saw."""
        return [score for score in self.defects if not score.caught_by]

    @property
    def idle(self) -> list[str]:
        """MUST and SHOULD cases that caught nothing in particular: nothing shows that they can fail.

        A defect that breaks a good part of all cases says nothing about any one of them.
        """
        most = max(1, len(self.cases) * MASS)
        particular = [score for score in self.defects if len(score.caught_by) <= most]
        busy = {case_id for score in particular for case_id in score.caught_by}
        return [case.id for case in self.cases if case.level != "INFO" and case.id not in busy]

    @property
    def good(self) -> bool:
        """No false accusation, none missed, and every case could judge."""
        return not (self.healthy_failures or self.uncaught or self.unjudged)

    def as_json(self) -> dict[str, Any]:
        """The content of a `realm-score/1` file."""
        return {
            "schema": SCHEMA,
            "cases": [case.id for case in self.cases],
            "defects": [
                {
                    "id": score.defect.id,
                    "what": score.defect.sentence,
                    "source": score.defect.source,
                    "caught_by": score.caught_by,
                    "caught": bool(score.caught_by),
                }
                for score in self.defects
            ],
            "healthy_failures": [result.case.id for result in self.healthy_failures],
            "unjudged_cases": self.unjudged,
            "idle_cases": self.idle,
        }


def run_against(server: MockServer, cases: Iterable[Case]) -> list[CaseResult]:
    """Run cases against a MockServer that is started for it and stopped after it."""
    with server:
        target = discover(server.url, api_key=server.api_key, model=server.model, timeout=SILENCE)
        target.other_key, target.limited_key = server.tenants.other_key, server.tenants.limited_key
        return run_cases(cases, target).results


def score_healthy(cases: Sequence[Case]) -> list[CaseResult]:
    """The healthy server's results; what it is too quick to show is judged at a visible pace."""
    first = run_against(MockServer(api_key=KEY), cases)
    again = [r.case for r in first if r.verdict == "informational" and r.case.level != "INFO"]
    slow = {r.case.id: r for r in run_against(MockServer(VISIBLE, api_key=KEY), again)} if again else {}
    return [slow.get(result.case.id, result) for result in first]


def score_defect(defect: Variation, cases: Sequence[Case]) -> DefectScore:
    """What the cases make of one defect."""
    # What is wrong with a WebSocket's session is to be seen nowhere else, and the other way round.
    there = [case for case in cases if (case.chapter in SOCKET_CHAPTERS) == (defect.session is not None)]
    chosen = [case for case in there if defect.schedule is None or case.chapter in TIMED_CHAPTERS]
    results = run_against(MockServer(defects=[defect.id], api_key=KEY), chosen)
    return DefectScore(defect, {result.case.id: result.verdict for result in results})


def score_all(
    cases: Sequence[Case],
    defects: Iterable[Variation] = tuple(DEFECTS.values()),
    progress: Callable[[DefectScore], None] = lambda score: None,
) -> Score:
    """Score the cases; `progress` is called for each defect, in order."""
    healthy = score_healthy(cases)
    scores = []
    with ThreadPoolExecutor(PARALLEL) as pool:
        for score in pool.map(lambda defect: score_defect(defect, cases), defects):
            progress(score)
            scores.append(score)
    return Score(cases, healthy, scores)


def matrix_lines(score: Score) -> list[str]:
    """The matrix for a terminal: a row a case, a column a defect, and the legend of the columns.

    `#` caught, `.` not caught, `?` could not be judged, a space: not run.
    """
    legend = [
        f"{number:3} {entry.defect.id:<28} {entry.defect.sentence}" for number, entry in _numbered(score)
    ]
    width = len(score.defects)
    name = max([18, *(len(case.id) for case in score.cases)])
    tens = "".join(str(number // 10 % 10) if number % 10 == 0 else " " for number in range(1, width + 1))
    ones = "".join(str(number % 10) for number in range(1, width + 1))
    rows = [
        f"{case.id:<{name}} {''.join(_cell(entry.verdicts.get(case.id)) for entry in score.defects)}"
        for case in score.cases
        if case.level != "INFO"
    ]
    return [*legend, "", f"{'':{name}} {tens}", f"{'':{name}} {ones}", *rows]


def _numbered(score: Score) -> Iterable[tuple[int, DefectScore]]:
    return enumerate(score.defects, 1)


def _cell(verdict: str | None) -> str:
    if verdict is None:
        return " "
    return "#" if verdict in CAUGHT else "." if verdict == "ok" else "?"
