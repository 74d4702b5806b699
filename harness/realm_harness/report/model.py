"""What a report is about: the results of the conformance run and of the load test, as frozen values.

The report meets the other rooms only through their JSON files (`realm-conformance/1`, `realm-load/1`);
`read` makes these values from such files, everything else in this package renders them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

CaseVerdict = Literal["ok", "failed", "non_strict", "unimplemented", "informational"]
Level = Literal["MUST", "SHOULD", "INFO"]

CASE_VERDICTS: tuple[CaseVerdict, ...] = get_args(CaseVerdict)
LEVELS: tuple[Level, ...] = get_args(Level)


@dataclass(frozen=True)
class WireEvent:
    """One read or write on the case's socket, `t_ms` milliseconds after the case began."""

    t_ms: float
    sent: bool
    text: str


@dataclass(frozen=True)
class Clause:
    """The rule that a case holds the target to, and where the rule comes from."""

    id: str
    sentence: str
    source: str


@dataclass(frozen=True)
class Case:
    """One conformance case with its verdict and its evidence; `ending` says how the connection ended."""

    id: str
    title: str
    chapter: str
    clause: Clause
    level: Level
    reason: str
    verdict: CaseVerdict
    message: str
    ending: str
    repro: str
    seconds: float
    wire: tuple[WireEvent, ...] = ()


@dataclass(frozen=True)
class Conformance:
    """A whole conformance run. `target` and `machine` are shown as they were recorded."""

    started: str
    seconds: float
    cases: tuple[Case, ...]
    target: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    tool: str = ""
    seed: str = ""

    def count(self, verdict: CaseVerdict, level: Level | None = None) -> int:
        """Cases with this verdict, of this level when one is given."""
        return sum(1 for case in self.cases if case.verdict == verdict and level in (None, case.level))

    def chapters(self) -> dict[str, tuple[Case, ...]]:
        """The cases by chapter, both in the order in which they ran."""
        names = dict.fromkeys(case.chapter for case in self.cases)
        return {name: tuple(case for case in self.cases if case.chapter == name) for name in names}


@dataclass(frozen=True)
class Distribution:
    """Order statistics of one latency, in milliseconds, out of `count` samples."""

    count: int
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True)
class Calibration:
    """The instrument's own error on the machine of the run, measured with so many streams: p99 in ms."""

    streams: int
    ttft_ms: float
    itl_ms: float


@dataclass(frozen=True)
class Load:
    """A load test: latencies in ms by figure name (ttft_ms, itl_ms, e2e_ms), rates in tokens per second.

    The generator's own part: the share of a processor that it used, how late it woke (p99, ms; None where not
    measured), and `bottleneck`, whether its delay may show in the latencies; `calibration` is None where its
    error was never measured.
    """

    started: str
    seconds: float
    latencies: Mapping[str, Distribution]
    tokens_per_second: float | None
    tokens_per_second_per_user: float | None
    requests: int
    completed: int
    failed: int
    cut: int
    errors: Mapping[str, int]
    definitions: Mapping[str, str]
    settings: Mapping[str, str]
    plots: Mapping[str, str]
    machine: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    tool: str = ""
    note: str = ""
    bottleneck: bool = False
    generator_cpu_share: float | None = None
    generator_lag_ms: float | None = None
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Subject:
    """What was tested: `kind` is "reference" (we started it) or "target" (somebody else's server)."""

    kind: Literal["reference", "target"]
    url: str
    model: str


@dataclass(frozen=True)
class Run:
    """Everything one `realm prove` gathered: the results that there are, and what went wrong on the way.

    `problems` are reasons why something could not be measured (it makes the run incomplete); `target_died`
    says that the server ended in the middle, which is the server's fault and makes the run failed. `raw`
    holds the result files' contents as read, for `report.json`.
    """

    subject: Subject
    started: str
    seconds: float
    strict_should: bool
    load_wanted: bool
    machine: Mapping[str, str]
    conformance: Conformance | None = None
    load: Load | None = None
    problems: tuple[str, ...] = ()
    target_died: str = ""
    log_tail: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)
