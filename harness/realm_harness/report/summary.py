"""The end of a run on the terminal: verdict, each broken clause in one line, figures, where the report is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from realm_harness.report.figures import LATENCY_NAMES, VERDICT_NAMES, latency_pair, rate
from realm_harness.report.model import CASE_VERDICTS, Load, Run
from realm_harness.report.text import one_line
from realm_harness.report.verdict import broken_cases, judge, load_gates, missing_parts

_RULE = "-" * 72
_SHOWN = 20


def summary(run: Run, report: Path) -> str:
    """The summary as text of short lines, safe for a terminal."""
    verdict = judge(run)
    lines = [_RULE, verdict.headline.upper(), ""]
    if run.conformance:
        counts = (f"{run.conformance.count(v)} {VERDICT_NAMES[v].lower()}" for v in CASE_VERDICTS)
        lines.append("Conformance  " + ", ".join(counts))
        lines += _broken(run)
    if run.load:
        lines += _load(run.load)
    lines += [f"Not measured {one_line(reason, 400)}" for reason in missing_parts(run)]
    if run.target_died:
        lines.append(f"Server died  {one_line(run.target_died, 400)}")
    lines += ["", f"Report       {report}", f"Exit code    {verdict.exit_code}"]
    return "\n".join(lines)


def _broken(run: Run) -> Iterator[str]:
    broken = broken_cases(run)
    for case in broken[:_SHOWN]:
        yield f"  FAILED {case.id}  {one_line(case.message or case.title, 110)}"
    if len(broken) > _SHOWN:
        yield f"  and {len(broken) - _SHOWN} more, all in the report"


def _load(load: Load) -> Iterator[str]:
    users = f" with {load.settings['users']} users" if "users" in load.settings else ""
    tokens = rate(load.tokens_per_second)
    yield f"Load         {load.requests:,} requests{users}, {load.failed:,} failed, {tokens} tokens/s"
    for name in LATENCY_NAMES:
        if name in load.latencies:
            p50, p99 = latency_pair(load, name)
            yield f"  {LATENCY_NAMES[name]:<20} p50 {p50:>11}   p99 {p99:>11}"
    for gate in load_gates(load):
        if not gate.held:
            yield f"  FAILED {gate.id}  {one_line(gate.message, 110)}"
