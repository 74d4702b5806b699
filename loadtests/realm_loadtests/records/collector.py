"""Where a process's requests are gathered, and how workers' reach the master.

Alone, a process counts and writes its own records. A worker sends both to the master with locust's regular
report, as the difference since the last one: a lost worker takes at most one report's interval with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter_ns, process_time
from typing import Any

from realm_loadtests.records.measures import Measures
from realm_loadtests.records.records import Record, RecordFile

MEASURES_FILE = "measures.json"
REPORT_KEY = "realm_load"


class Collector:
    """The measures of this process (and, on a master, of its workers)."""

    def __init__(self, folder: Path | None) -> None:
        self.measures = Measures()
        self.started = perf_counter_ns()
        self.stopped: int | None = None
        self._folder = folder
        self._file = RecordFile(folder) if folder else None
        self._cpu_base = process_time()
        self._unsent = Measures()
        self._unsent_records: list[dict[str, Any]] = []
        self.is_worker = False
        self.running = False

    def start(self, at_ns: int | None = None) -> None:
        """Begin the run's window: the users are about to start, at `at_ns` (`perf_counter_ns`) or now."""
        self.started, self.stopped = perf_counter_ns() if at_ns is None else at_ns, None
        self.running = True
        self._cpu_base = process_time()

    def stop(self) -> None:
        """End the run's window: from here on, streams are only drained."""
        self.running = False
        if self.stopped is None:
            self.stopped = perf_counter_ns()

    def add(self, record: Record) -> None:
        """Take a request that has ended."""
        self.measures.add(record)
        if self.is_worker:
            self._unsent.add(record)
            self._unsent_records.append(record.to_json())
        elif self._file:
            self._file.write(record.to_json())

    def add_lag(self, lag_us: int) -> None:
        """Take how late this process was woken from a sleep: the error that its stamps have just then."""
        self.measures.lag.record(lag_us)
        if self.is_worker:
            self._unsent.lag.record(lag_us)

    def report(self, data: dict[str, Any]) -> None:
        """On a worker: put what is new into locust's report to the master."""
        part, self._unsent = self._unsent, Measures()
        records, self._unsent_records = self._unsent_records, []
        part.cpu_s = self._take_cpu()
        part.window_s = self.window_s
        data[REPORT_KEY] = {"measures": part.to_json(), "records": records}

    def receive(self, data: dict[str, Any]) -> None:
        """On the master: take a worker's report."""
        report = data.get(REPORT_KEY)
        if report is None:
            return
        self.measures.merge(Measures.from_json(report["measures"]))
        if self._file:
            for record in report["records"]:
                self._file.write(record)

    def finish(self) -> None:
        """Write the measures of the whole run; called once, as the process ends, and not on workers."""
        self.stop()
        self.measures.cpu_s += self._take_cpu()
        self.measures.window_s = max(self.measures.window_s, self.window_s)
        if self._folder and self._file:
            document = {"measures": self.measures.to_json(), "records_error": self._file.error}
            (self._folder / MEASURES_FILE).write_text(json.dumps(document), encoding="utf-8")
            self._file.close()

    @property
    def window_s(self) -> float:
        """Seconds from the start of the users to the end of the duration, or to now."""
        return ((self.stopped or perf_counter_ns()) - self.started) / 1e9

    def _take_cpu(self) -> float:
        now = process_time()
        used, self._cpu_base = now - self._cpu_base, now
        return used
