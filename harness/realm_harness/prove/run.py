"""The main job: get a server, hold it to the contract, load it, and put what was seen into one report.

Everything is done by `realm` commands in processes of their own, so that the harness knows the server only
over the wire, and a part that fails costs its own results and not the report.
"""

from __future__ import annotations

import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from realm_harness.prove import parts
from realm_harness.prove.options import Options
from realm_harness.prove.progress import Progress
from realm_harness.prove.server import Server, ServerFailed, reference_server
from realm_harness.prove.target import check_target
from realm_harness.report import HTML_NAME, JSON_NAME, JUNIT_NAME, Conformance, Load, Run, Subject
from realm_harness.results import machine

WRITTEN = (HTML_NAME, JSON_NAME, JUNIT_NAME, "server.log")
TERMINATED = 128 + signal.SIGTERM


def prove(options: Options) -> Run:
    """Run the whole job and return what there is of it.

    Raises `TargetUnusable` or `parts.PartFailed` when there is nothing to test: no server at the URL, no
    model.
    """
    with _terminable(), ExitStack() as resources:
        return _Job(options, Path(resources.enter_context(tempfile.TemporaryDirectory()))).run()


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that a stopped CI job leaves no server behind."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Job:
    """One run in progress: the results gathered so far, and what went wrong."""

    def __init__(self, options: Options, work: Path) -> None:
        if options.target is None:
            # The reference is started with a key of this run's own, so that its lock is proved as well.
            options = replace(options, api_key=f"realm_{secrets.token_hex(16)}")
        self.options = options
        self.work = work
        # Get the server ready (a target: one look; the reference: fetch, start), conformance, load.
        steps = (1 if options.target else 1 + options.fetches) + 1 + options.load
        self.progress = Progress(steps, secret=options.api_key, hidden=str(work))
        self.started = datetime.now(UTC)
        self.begun = time.monotonic()
        self.conformance: Conformance | None = None
        self.load: Load | None = None
        self.problems: list[str] = []
        self.died = ""
        self.tail: tuple[str, ...] = ()
        self.raw: dict[str, Any] = {}

    def run(self) -> Run:
        if self.options.target is not None:
            return self._run_target(self.options.target)
        return self._run_reference()

    def _run_target(self, target: str) -> Run:
        self.progress.step(f"Look at {target}")
        url = check_target(target)
        self.progress.done("it answers HTTP,")
        self._clear_out()
        self._measure(url, None)
        return self._gathered(Subject("target", url, self.options.model or self._seen_model()))

    def _run_reference(self) -> Run:
        self._clear_out()
        model = self.options.served_model
        if self.options.fetches:
            self.progress.step(f"Fetch the model {model}")
            parts.fetch_model(self.options, self.progress)
            self.progress.done()
        self.progress.step("Start the reference server on a free port")
        url = "http://127.0.0.1"
        try:
            with reference_server(self.options, self.work, self.progress.heartbeat) as server:
                url = server.url
                self.progress.done(f"ready at {url}")
                self._measure(url, server)
        except ServerFailed as error:
            self.problems.append(f"{error}; its whole log is in server.log")
            self.tail = error.tail
            for line in error.tail:
                self.progress.line(line)
        return self._gathered(Subject("reference", url, self._seen_model() or model))

    def _measure(self, url: str, server: Server | None) -> None:
        """Conformance, then load; each part's failure is noted, and a dead server is not asked again."""
        self.progress.step("Hold it to the contract")
        try:
            found = parts.conformance(self.options, url, self.work, self.progress)
            self.conformance, self.raw["conformance"] = found.results, found.raw
            self.progress.done()
        except parts.PartFailed as error:
            self._failed(str(error))
        if self._server_died(server, "the conformance run") or not self.options.load:
            return
        self.progress.step(f"Load it with {self.options.users} users for {self.options.duration_s} s")
        try:
            measured = parts.load(self.options, url, self.work, self.progress)
            self.load, self.raw["load"] = measured.results, measured.raw
            self.progress.done()
        except parts.PartFailed as error:
            self._failed(str(error))
        self._server_died(server, "the load test")

    def _failed(self, problem: str) -> None:
        self.problems.append(problem)
        self.progress.done("failed")

    def _server_died(self, server: Server | None, during: str) -> bool:
        death = server.death() if server else ""
        if server and death:
            self.died = f"{death[0].upper()}{death[1:]} during {during}"
            self.tail = server.tail()
        return bool(death)

    def _seen_model(self) -> str:
        seen = (part.get("target") or {} for part in self.raw.values())
        return next((str(target["model"]) for target in seen if target.get("model")), "")

    def _clear_out(self) -> None:
        """Make the folder, and take an earlier run's files away, so that none passes for this run's."""
        self.options.out.mkdir(parents=True, exist_ok=True)
        for name in WRITTEN:
            (self.options.out / name).unlink(missing_ok=True)

    def _gathered(self, subject: Subject) -> Run:
        return Run(
            subject=subject,
            started=self.started.isoformat(timespec="seconds"),
            seconds=time.monotonic() - self.begun,
            strict_should=self.options.level == "should",
            load_wanted=self.options.load,
            machine={name: str(value) for name, value in machine().items()},
            conformance=self.conformance,
            load=self.load,
            problems=tuple(self.problems),
            target_died=self.died,
            log_tail=self.tail,
            raw=self.raw,
        )
