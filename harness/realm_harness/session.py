"""A pytest session that runs conformance cases: judges them, shows five verdicts, writes the results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from realm_harness.case import CHAPTERS, Case, case_of
from realm_harness.conform import judge
from realm_harness.discover import TargetUnavailable, discover
from realm_harness.results import CaseResult, RunResult

CHAPTER_FOLDER = Path(__file__).parent / "chapters"
SESSION = "realm-conformance-session"
"""The name under which the session is registered as a plugin."""

LETTERS = {"non_strict": "n", "unimplemented": "u", "informational": "i"}


class BrokenClause(Exception):
    """A case failed; pytest shows its text alone."""


class ConformanceSession:
    """The hooks of a run with --realm-target; registered only then."""

    def __init__(self, config: pytest.Config, api_key: str | None) -> None:
        self.config = config
        self.level: str = config.getoption("--realm-level")
        self.results: dict[str, CaseResult] = {}
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.begun = time.perf_counter()
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            config.args = [str(CHAPTER_FOLDER)]
        try:
            self.target = discover(
                config.getoption("--realm-target"),
                api_key=api_key,
                model=config.getoption("--realm-model"),
                timeout=config.getoption("--realm-timeout"),
            )
        except (TargetUnavailable, ValueError) as error:
            raise pytest.UsageError(str(error)) from None

    def pytest_report_header(self) -> str:
        """Say what is tested."""
        return f"realm: {self.target.address.url}, model {self.target.model}, level {self.level}"

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the wanted cases, in the order of the chapters."""
        globs: Sequence[str] = config.getoption("--realm-case")
        kept: list[pytest.Item] = []
        left: list[pytest.Item] = []
        for item in items:
            found = case_of(getattr(item, "function", None))
            wanted = found is None or not globs or any(fnmatchcase(found.id, glob) for glob in globs)
            (kept if wanted else left).append(item)
        if left:
            config.hook.pytest_deselected(items=left)
        items[:] = sorted(kept, key=_chapter_number)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Judge a case in place of calling it."""
        found = case_of(pyfuncitem.function)
        if found is None:
            return None
        result = judge(found, self.target)
        self.results[pyfuncitem.nodeid] = result
        if result in self._run().broken(self.level):
            raise BrokenClause(describe(result))
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
        """Show a broken clause's text without a traceback, and keep the verdict in the report."""
        report = yield
        result = self.results.get(item.nodeid)
        if call.when == "call" and result is not None:
            report.realm_verdict = result.verdict
            report.user_properties.append(("realm_verdict", result.verdict))
            if call.excinfo is not None and isinstance(call.excinfo.value, BrokenClause):
                report.longrepr = str(call.excinfo.value)
        return report

    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        """Verdicts other than ok and failed have names of their own."""
        verdict = getattr(report, "realm_verdict", None)
        if report.outcome == "passed" and verdict in LETTERS:
            return verdict, LETTERS[verdict], verdict.upper()
        return None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List what was broken without failing the run."""
        for result in self.results.values():
            if result.verdict == "non_strict" and self.level == "must":
                terminalreporter.write_line(f"{result.case.id} non-strict: {result.message}")

    def pytest_sessionfinish(self) -> None:
        """Write the results file."""
        wanted = self.config.getoption("--realm-json")
        if wanted:
            self._run().write(Path(wanted))

    def _run(self) -> RunResult:
        return RunResult(
            self.target.facts, self.started, time.perf_counter() - self.begun, list(self.results.values())
        )


def _chapter_number(item: pytest.Item) -> int:
    found: Case | None = case_of(getattr(item, "function", None))
    return CHAPTERS.index(found.chapter) if found is not None else -1


def describe(result: CaseResult) -> str:
    """A breach in a few lines for a stranger: the case, what was seen, the clause, how to see it."""
    found = result.case
    lines = [
        f"{found.id} ({found.level}) {found.title}",
        f"  seen:    {result.message}",
        f"  clause:  {found.clause.sentence} [{found.clause.id}]",
        f"  source:  {found.clause.source}",
        f"  why:     {found.reason}",
        f"  again:   {result.repro}",
    ]
    if found.clause.peers:
        lines.insert(4, f"  others:  {found.clause.peers}")
    return "\n".join(lines)
