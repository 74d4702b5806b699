"""Run load tools in turns against the emitter, compare what each reports with the emitter's own record.

    python ci/load_peers_table.py --peers FOLDER [--rounds 3] [--write]

Each run is a line of JSON in `--results`, and those of earlier calls count: what a call was cut off from, the
next one adds (`--tools`, `--cases` say what). `--write` makes the tables of docs/load-peers.md of all. Needs
/proc (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from load_peers_tools import ROOT, SEED, Figures, Load, Tool, median, percentiles, prepare, tools

STREAMS: Final = 64
PAGE: Final = ROOT / "docs" / "load-peers.md"
MARK: Final = "<!-- what follows is written by ci/load_peers --write -->"
TTFT_MS, ITL_MS, TOKENS = 20, 5, 32
STALL_MS: Final = 200
_SAMPLE_SECONDS: Final = 0.1
_FAMILY_SECONDS: Final = 1.0
_LIMIT_SECONDS: Final = 90


@dataclass(frozen=True)
class Case:
    """A schedule of the emitter's; `late_ms` is how much longer an answer of it takes on average."""

    name: str
    title: str
    options: tuple[str, ...] = ()
    late_ms: float = 0

    @property
    def answer_s(self) -> float:
        """How long an answer takes."""
        return (TTFT_MS + ITL_MS * (TOKENS - 1) + self.late_ms) / 1e3


CASES: Final = (
    Case("even", f"First token at {TTFT_MS} ms, then one each {ITL_MS} ms"),
    Case(
        "stall",
        f"The same with a stall of {STALL_MS} ms in each stream",
        ("--stall", "16", str(STALL_MS)),
        STALL_MS,
    ),
    Case(
        "uneven",
        "The same with 3 ms of jitter, and 60 ms more before every fiftieth token, drawn",
        ("--jitter-ms", "3", "--slow", "0.02", "60", "--schedule-seed", "11"),
        0.02 * 60 * TOKENS,
    ),
)


class CpuWatch:
    """CPU seconds of a process and of all that it started, over time."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._spent: dict[int, float] = {}
        self._samples: list[tuple[int, float]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        """End the watching."""
        self._done.set()
        self._thread.join()

    def between(self, begin_ns: int, end_ns: int) -> float:
        """CPU seconds spent between two moments of `time.perf_counter_ns`."""
        moments = [moment for moment, _ in self._samples]
        spent = [seconds for _, seconds in self._samples]
        first, last = np.interp([begin_ns, end_ns], moments, spent)
        return float(last - first)

    def _watch(self) -> None:
        family: list[psutil.Process] = []
        looked = -_FAMILY_SECONDS
        while not self._done.wait(_SAMPLE_SECONDS):
            if time.monotonic() - looked > _FAMILY_SECONDS:  # looking through /proc costs milliseconds
                looked, family = time.monotonic(), self._family()
            for process in family:
                try:
                    times = process.cpu_times()
                except psutil.Error:
                    continue
                self._spent[process.pid] = times.user + times.system
            self._samples.append((time.perf_counter_ns(), sum(self._spent.values())))

    def _family(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return []


@contextmanager
def emitter(case: Case) -> Iterator[str]:
    """The emitter with a case's schedule, in a process of its own; its URL."""
    schedule = ["--ttft-ms", str(TTFT_MS), "--itl-ms", str(ITL_MS), "--tokens", str(TOKENS), *case.options]
    command = [sys.executable, "-m", "realm_mocks.emitter", *schedule]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def run(tool: Tool, case: Case, seconds: int) -> dict[str, Any]:
    """One run: what the tool reported, what the emitter sent, what the tool's CPU was while it did."""
    with tempfile.TemporaryDirectory(prefix="load-peers-") as name, emitter(case) as url:
        folder = Path(name)
        prepare(folder)
        load = Load(url, STREAMS, seconds, round(seconds * STREAMS / case.answer_s), folder)
        with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
            process = subprocess.Popen(
                tool.command(load), stdout=out, stderr=err, start_new_session=True, cwd=folder
            )
            watch = CpuWatch(process.pid)
            try:
                code = process.wait(_LIMIT_SECONDS)
            finally:
                watch.stop()
                if process.poll() is None:
                    os.killpg(process.pid, 9)
                    process.wait()
        with urllib.request.urlopen(f"{url}/mock/records") as answer:
            served = json.load(answer)
        if code:
            raise RuntimeError(f"{tool.name} ended with {code}: {(folder / 'stderr').read_text()[-400:]}")
        reported = tool.read(folder)
    truth, events, begin, end = _truth(served)
    return {
        "tool": tool.name,
        "version": tool.version,
        "case": case.name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "reported": reported,
        "true": truth,
        "requests": len(served),
        "events_per_s": events / ((end - begin) / 1e9),
        "cpu_s_per_1000_events": 1000 * watch.between(begin, end) / events,
    }


def _truth(served: Sequence[dict[str, Any]]) -> tuple[Figures, int, int, int]:
    """What was sent; and of the time from when all streams ran to the last send: events, begin and end."""
    whole = [record for record in served if record["outcome"] == "completed"]
    ttft = [(record["sent_ns"][0] - record["arrived_ns"]) / 1e6 for record in whole]
    gaps = [(after - before) / 1e6 for record in whole for before, after in pairwise(record["sent_ns"])]
    begin = sorted(record["arrived_ns"] for record in whole)[STREAMS]
    sent = [moment for record in whole for moment in record["sent_ns"] if moment >= begin]
    return percentiles("ttft", ttft) | percentiles("itl", gaps), len(sent), begin, max(sent)


def lines_of(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The tables: what each tool reported, and in brackets what was sent to it."""
    order = [tool.name for tool in tools(Path())]
    measured = {each["case"] for each in results}
    for case in (case for case in CASES if case.name in measured):
        yield f"\n## {case.title}, {STREAMS} streams\n"
        yield "| tool | TTFT p50 | TTFT p99 | ITL p50 | ITL p99 | CPU s a 1,000 events | events/s | rounds |"
        yield "|---|---|---|---|---|---|---|---|"
        for name in order:
            rounds = [each for each in results if (each["tool"], each["case"]) == (name, case.name)]
            if rounds:
                yield from _rows(name, rounds)


def _rows(name: str, rounds: Sequence[dict[str, Any]]) -> Iterator[str]:
    true = median([each["true"] for each in rounds])
    cpu = statistics.median(each["cpu_s_per_1000_events"] for each in rounds)
    rate = statistics.median(each["events_per_s"] for each in rounds)
    for suffix in rounds[0]["reported"]:
        seen = median([each["reported"][suffix] for each in rounds])
        cells = " | ".join(f"{seen[key]:.1f} ({true[key]:.1f})" for key in true)
        own = f"{cpu:.3f} | {rate:,.0f} | {len(rounds)}" if not suffix else "| |"
        yield f"| {name} {rounds[0]['version']}{suffix} | {cells} | {own} |"


def head(results: Sequence[dict[str, Any]], missing: dict[str, str]) -> Iterator[str]:
    """What was measured, where and when, and what could not be."""
    days = sorted({each["at"][:10] for each in results})
    versions = f"Python {platform.python_version()}, seed {SEED}"
    yield f"Measured {' to '.join(dict.fromkeys((days[0], days[-1])))}: {platform.platform()},"
    yield f"{os.cpu_count()} CPUs ({_processor()}), {versions}; medians of the rounds, in turns."
    yield from (f"\nNot run: {name}: {why}" for name, why in missing.items())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> None:
    """Read the command line; run and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path, required=True, help="where their environments are")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of each run")
    parser.add_argument("--tools", help="only these, with commas between")
    parser.add_argument("--cases", help="only these: even, stall, uneven")
    parser.add_argument("--results", type=Path, default=Path(tempfile.gettempdir()) / "load-peers.jsonl")
    parser.add_argument("--write", action="store_true", help="make docs/load-peers.md of all results")
    options = parser.parse_args()
    known = tools(options.peers)
    wanted = options.tools.split(",") if options.tools else [tool.name for tool in known]
    cases = options.cases.split(",") if options.cases else [case.name for case in CASES]
    missing = {tool.name: tool.missing for tool in known if tool.missing}
    for name, why in missing.items():
        print(f"not run: {name}: {why}", file=sys.stderr)
    chosen = [tool for tool in known if tool.name in wanted and tool.name not in missing]
    for _ in range(options.rounds):
        for case in (case for case in CASES if case.name in cases):
            for tool in chosen:
                result = run(tool, case, options.seconds)
                with options.results.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(result) + "\n")
                print(*_rows(tool.name, [result]), sep="\n", flush=True)
    if options.write:
        results = [json.loads(line) for line in options.results.read_text().splitlines()]
        kept = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
        measured = "\n".join([*head(results, missing), *lines_of(results)])
        PAGE.write_text(f"{kept}{MARK}\n\n{measured}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
