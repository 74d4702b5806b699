"""JUnit XML for CI: one test suite a chapter, one for the load gates, one for what could not be measured.

There is no one schema; this keeps to what Jenkins' and Surefire's agree on (attributes of
testsuites/testsuite/testcase, one of failure/error/skipped, then system-out), which GitHub, GitLab and Azure
actions read as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from realm_harness.report.model import Case, Run
from realm_harness.report.text import clip, one_line
from realm_harness.report.verdict import Gate, broken_cases, load_gates, missing_parts

_MAX_TEXT = 8_000


@dataclass(frozen=True)
class _Entry:
    """One testcase; `outcome` is "" (passed) or the name of the child element that says what happened."""

    name: str
    seconds: float
    outcome: str = ""
    message: str = ""
    detail: str = ""
    note: str = ""


def junit_xml(run: Run) -> bytes:
    """The run as a UTF-8 JUnit document."""
    suites = []
    if run.conformance:
        failing = {case.id for case in broken_cases(run)}
        for chapter, cases in run.conformance.chapters().items():
            suites.append(_suite(run, f"conformance.{chapter}", (_case(case, failing) for case in cases)))
    if run.load:
        suites.append(_suite(run, "load", (_gate(gate) for gate in load_gates(run.load))))
    missing = [_Entry(reason, 0.0, "error", reason) for reason in missing_parts(run)]
    if run.target_died:
        missing.append(
            _Entry("the server stays up", 0.0, "failure", run.target_died, "\n".join(run.log_tail))
        )
    if missing:
        suites.append(_suite(run, "run", missing))
    root = ET.Element("testsuites", name="realm prove")
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    root.set("time", f"{run.seconds:.3f}")
    root.extend(suites)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _case(case: Case, failing: set[str]) -> _Entry:
    name = f"{case.id} {one_line(case.title)}"
    evidence = [
        case.message,
        "",
        f"{case.level} {case.clause.id}: {case.clause.sentence}",
        f"Source: {case.clause.source}",
        f"The connection: {case.ending}",
        f"Reproduce: {case.repro}",
    ]
    detail = clip("\n".join(evidence), _MAX_TEXT)
    if case.id in failing:
        return _Entry(name, case.seconds, "failure", one_line(case.message), detail)
    if case.verdict == "unimplemented":
        return _Entry(name, case.seconds, "skipped", f"the target does not have it: {one_line(case.message)}")
    note = f"{case.verdict.replace('_', '-')}: {detail}" if case.verdict != "ok" else ""
    return _Entry(name, case.seconds, note=note)


def _gate(gate: Gate) -> _Entry:
    name = f"{gate.id} {gate.title}"
    return (
        _Entry(name, 0.0) if gate.held else _Entry(name, 0.0, "failure", one_line(gate.message), gate.message)
    )


def _suite(run: Run, name: str, entries: Iterable[_Entry]) -> ET.Element:
    entries = list(entries)
    outcomes = [entry.outcome for entry in entries]
    suite = ET.Element(
        "testsuite",
        name=name,
        tests=str(len(entries)),
        failures=str(outcomes.count("failure")),
        errors=str(outcomes.count("error")),
        skipped=str(outcomes.count("skipped")),
        time=f"{sum(entry.seconds for entry in entries):.3f}",
        # Surefire's form has no zone; the report says UTC elsewhere.
        timestamp=run.started[:19],
    )
    for entry in entries:
        test = ET.SubElement(suite, "testcase", classname=name, name=entry.name, time=f"{entry.seconds:.3f}")
        if entry.outcome:
            child = ET.SubElement(test, entry.outcome, message=entry.message)
            if entry.outcome != "skipped":
                child.set("type", entry.outcome)
            child.text = entry.detail or None
        if entry.note:
            ET.SubElement(test, "system-out").text = entry.note
    return suite
