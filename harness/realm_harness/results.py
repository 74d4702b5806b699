"""The results of a conformance run, and the `realm-conformance/1` file that other rooms read."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from realm_harness.case import Case

SCHEMA = "realm-conformance/1"
VERDICTS = ("ok", "failed", "non_strict", "unimplemented", "informational")


Told = tuple[str, str, str | None]
"""A case's id, its verdict and its message."""


@dataclass(frozen=True)
class Evidence:
    """What is left of a case for a reader.

    Attributes:
        ending: how the last connection or call ended, "" when there was none.
        repro: a command that shows it again.
        wire: the timed log of both directions: `t_ms`, `dir` (">" or "<"), `text`.
    """

    ending: str
    repro: str
    wire: list[dict[str, object]] = field(repr=False)


@dataclass(frozen=True)
class CaseResult:
    """What came of one case; for `ending`, `repro` and `wire` see `Evidence`.

    Attributes:
        verdict: one of VERDICTS.
        message: what was seen, None when the case is ok.
    """

    case: Case
    verdict: str
    message: str | None
    ending: str
    repro: str
    wire: list[dict[str, object]] = field(repr=False)
    seconds: float = 0.0

    @property
    def told(self) -> Told:
        """What of it may go from one process to another; `restored` makes results of it."""
        return self.case.id, self.verdict, self.message

    def as_json(self) -> dict[str, Any]:
        """The result's entry in the results file."""
        found = self.case
        return {
            "id": found.id,
            "title": found.title,
            "chapter": found.chapter,
            "clause": {
                "id": found.clause.id,
                "sentence": found.clause.sentence,
                "source": found.clause.source,
                "peers": found.clause.peers,
            },
            "level": found.level,
            "reason": found.reason,
            "verdict": self.verdict,
            "message": self.message,
            "ending": self.ending,
            "repro": self.repro,
            "wire": self.wire,
            "seconds": round(self.seconds, 3),
        }


def restored(cases: Iterable[Case], told: Iterable[Told]) -> list[CaseResult]:
    """Results of another process, without their evidence."""
    by_id = {case.id: case for case in cases}
    return [CaseResult(by_id[case_id], verdict, message, "", "", []) for case_id, verdict, message in told]


class Facts(Protocol):
    """What is known of whatever was under test."""

    @property
    def name(self) -> str:
        """Which one it was."""

    @property
    def detail(self) -> str:
        """What else a reader wants to know first."""

    def as_json(self) -> dict[str, Any]:
        """The `target` of a results file."""


@dataclass(frozen=True)
class TargetFacts:
    """What is known of the server under test."""

    url: str
    model: str
    server_header: str | None
    precision: str | None = None

    @property
    def name(self) -> str:
        """Its URL."""
        return self.url

    @property
    def detail(self) -> str:
        """The model."""
        return self.model

    def as_json(self) -> dict[str, Any]:
        """The `target` of a results file."""
        return asdict(self)


@dataclass(frozen=True)
class RunResult:
    """A whole run. `started` is ISO 8601 in UTC."""

    target: Facts
    started: str
    seconds: float
    results: list[CaseResult]

    @property
    def summary(self) -> dict[str, int]:
        """How many cases have each verdict."""
        counts = Counter(result.verdict for result in self.results)
        return {verdict: counts[verdict] for verdict in VERDICTS}

    def broken(self, level: str) -> list[CaseResult]:
        """The results that fail a run held to `level` ("must" or "should")."""
        failing = {"failed", "non_strict"} if level == "should" else {"failed"}
        return [result for result in self.results if result.verdict in failing]

    def as_json(self) -> dict[str, Any]:
        """The content of a results file."""
        return {
            "schema": SCHEMA,
            "tool": {"name": "realm-harness", "version": version("realm-harness")},
            "target": self.target.as_json(),
            "machine": machine(),
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "summary": self.summary,
            "cases": [result.as_json() for result in self.results],
        }

    def write(self, path: Path) -> None:
        """Write the results file; OSError when that cannot be done."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n", "utf-8")


def machine() -> dict[str, object]:
    """The machine that the harness ran on."""
    return {"platform": platform.platform(), "cpus": os.cpu_count(), "python": platform.python_version()}
