"""Where a process's requests are gathered, and how workers' reach the master.

A process counts, and writes its own records as requests end: workers of one machine append to one file. What
a worker counted goes to the master with locust's regular report, as the difference since the last one; from
another machine its records go too, and it keeps a copy: a lost worker takes nothing with it that has ended.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter_ns, process_time
from typing import Any

from realm_loadtests.records.measures import Measures
from realm_loadtests.records.records import Record, RecordFile

REPORT_KEY = "realm_load"


class Collector:
    """The measures of this process (and, on a master, of its workers).

    `folder` is where its records go; `is_worker` that it reports to a master, `is_remote` with its records.
    `lost_workers` are a master's: a sentence for each.
    """

    def __init__(self, folder: Path | None, *, is_worker: bool = False, is_remote: bool = False) -> None:
        self.measures = Measures()
        self.started = perf_counter_ns()
        self.stopped: int | None = None
        self._file = RecordFile(folder) if folder else None
        self._cpu_base = process_time()
        self._unsent = Measures()
        self._unsent_records: list[dict[str, Any]] = []
        self._others_error: str | None = None
        self._is_worker, self._is_remote = is_worker, is_remote
        self._ended = False
        self.lost_workers: list[str] = []
        self.running = False
        self.open: int | None = None
        """Streams that are open in this process; None on a master, which has none of its own."""

    def start(self, at_ns: int | None = None) -> None:
        """Begin the run's window: the users are about to start, at `at_ns` (`perf_counter_ns`) or now."""
        self.started, self.stopped = perf_counter_ns() if at_ns is None else at_ns, None
        self.running, self._ended = True, False
        self._cpu_base = process_time()

    def stop(self) -> None:
        """End the run's window: from here on, streams are only drained."""
        self.running = False
        if self.stopped is None:
            self.stopped = perf_counter_ns()

    def end(self) -> None:
        """On a worker: the last stream has come to its end, so that the next report is the last."""
        self._ended = True

    def add(self, record: Record) -> None:
        """Take a request that has ended."""
        self.measures.add(record)
        written = record.to_json()
        if self._file:
            self._file.write(written)
        if self._is_worker:
            self._unsent.add(record)
        if self._is_remote:
            self._unsent_records.append(written)

    def add_lag(self, lag_us: int) -> None:
        """Take how late this process was woken from a sleep: the error that its stamps have just then."""
        self.measures.lag.record(lag_us)
        if self._is_worker:
            self._unsent.lag.record(lag_us)

    def report(self, data: dict[str, Any]) -> None:
        """On a worker: put what is new into locust's report to the master."""
        part, self._unsent = self._unsent, Measures()
        records, self._unsent_records = self._unsent_records, []
        part.cpu_s = self._take_cpu()
        part.window_s = self.window_s
        data[REPORT_KEY] = {
            "measures": part.to_json(),
            "records": records,
            "records_error": self._file.error if self._file else None,
            "last": self._ended,
        }

    def receive(self, data: dict[str, Any]) -> bool:
        """On the master: take a worker's report; returns whether it is that worker's last."""
        report = data.get(REPORT_KEY)
        if report is None:
            return False
        self.measures.merge(Measures.from_json(report["measures"]))
        self._others_error = self._others_error or report["records_error"]
        if self._file:
            for record in report["records"]:
                self._file.write(record)
        return bool(report["last"])

    def finish(self) -> dict[str, Any]:
        """The measures of the whole run; called once, as the process ends, and not on workers."""
        self.stop()
        self.measures.cpu_s += self._take_cpu()
        self.measures.window_s = max(self.measures.window_s, self.window_s)
        error = self._others_error
        if self._file:
            error = self._file.error or error
            self._file.close()
        return {
            "measures": self.measures.to_json(),
            "records_error": error,
            "lost_workers": self.lost_workers,
        }

    @property
    def window_s(self) -> float:
        """Seconds from the start of the users to the end of the duration, or to now."""
        return ((self.stopped or perf_counter_ns()) - self.started) / 1e9

    def _take_cpu(self) -> float:
        now = process_time()
        used, self._cpu_base = now - self._cpu_base, now
        return used
