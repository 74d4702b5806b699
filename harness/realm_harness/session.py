"""A pytest session that runs conformance cases: judges them, shows five verdicts, writes the results."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from realm_harness.case import CHAT, Case, Suite, case_of
from realm_harness.conform import Subject, judge
from realm_harness.discover import TargetUnavailable, discover
from realm_harness.results import CaseResult, Facts, RunResult
from realm_harness.target import Target

CHAPTER_FOLDER = Path(__file__).parent / "chapters"
SESSION = "realm-conformance-session"
"""The name under which the session is registered as a plugin."""

LETTERS = {"non_strict": "n", "unimplemented": "u", "informational": "i"}


class BrokenClause(Exception):
    """A case failed; pytest shows its text alone."""


class CaseSession:
    """The hooks that judge the cases of one suite, whatever they are asked of."""

    def __init__(self, config: pytest.Config, suite: Suite, folder: Path) -> None:
        self.config = config
        self.suite = suite
        self.level: str = config.getoption("--realm-level")
        self.results: dict[str, CaseResult] = {}
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.begun = time.perf_counter()
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            config.args = [str(folder)]

    def is_asked(self, item: pytest.Item) -> bool:
        """Whether an item is to run, if its id is wanted."""
        del item
        return True

    def subject_of(self, item: pytest.Item) -> Subject:
        """What a case is asked of."""
        raise NotImplementedError

    @property
    def facts(self) -> Facts:
        """What is known of it."""
        raise NotImplementedError

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the wanted cases, in the order of the chapters."""
        globs: Sequence[str] = config.getoption("--realm-case")
        kept: list[pytest.Item] = []
        left: list[pytest.Item] = []
        for item in items:
            found = case_of(getattr(item, "function", None))
            wanted = found is None or not globs or any(fnmatchcase(found.id, glob) for glob in globs)
            (kept if wanted and self.is_asked(item) else left).append(item)
        if left:
            config.hook.pytest_deselected(items=left)
        items[:] = sorted(kept, key=self._chapter_number)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Judge a case in place of calling it."""
        found = case_of(pyfuncitem.function)
        if found is None:
            return None
        result = judge(found, self.subject_of(pyfuncitem))
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
            self.facts, self.started, time.perf_counter() - self.begun, list(self.results.values())
        )

    def _chapter_number(self, item: pytest.Item) -> int:
        found: Case | None = case_of(getattr(item, "function", None))
        return self.suite.chapters.index(found.chapter) if found is not None else -1


class ConformanceSession(CaseSession):
    """The hooks of a run with --realm-target; registered only then."""

    def __init__(self, config: pytest.Config, api_key: str | None) -> None:
        super().__init__(config, CHAT, CHAPTER_FOLDER)
        try:
            self.target = discover(
                config.getoption("--realm-target"),
                api_key=api_key,
                model=config.getoption("--realm-model"),
                timeout=config.getoption("--realm-timeout"),
                websocket=config.getoption("--realm-websocket"),
            )
        except (TargetUnavailable, ValueError) as error:
            raise pytest.UsageError(str(error)) from None
        self.target.other_key = os.environ.get("REALM_OTHER_KEY")
        self.target.limited_key = os.environ.get("REALM_LIMITED_KEY")

    def pytest_report_header(self) -> str:
        """Say what is tested."""
        return f"realm: {self.target.address.url}, model {self.target.model}, level {self.level}"

    def subject_of(self, item: pytest.Item) -> Target:
        """The server."""
        del item
        return self.target

    @property
    def facts(self) -> Facts:
        """What is known of the server."""
        return self.target.facts


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
