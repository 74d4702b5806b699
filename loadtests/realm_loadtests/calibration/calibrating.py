"""Measuring the instrument: load tests of an emitter in a process of its own, one level after the other."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from realm_loadtests.calibration import instrument as calibration
from realm_loadtests.calibration.instrument import Arrived, Calibration, Level
from realm_loadtests.figures.results import generator
from realm_loadtests.records.measures import Measures
from realm_loadtests.records.records import Record, read_records
from realm_loadtests.runs.launch import run_locust
from realm_loadtests.settings import Settings
from realm_loadtests.users.arrivals import rhythm

TTFT_MS: Final = 20.0
ITL_MS: Final = 5.0
TOKENS: Final = 32
UNPACED_STREAMS: Final = 16
UNPACED_TOKENS: Final = 2000
ARRIVALS: Final = ("constant:100", "poisson:100")


@dataclass(frozen=True)
class Plan:
    """What is measured: the numbers of streams, ascending, and the seconds of each run."""

    streams: Sequence[int]
    duration_s: int
    seed: int


def calibrate(plan: Plan, on_level: Callable[[str], None] = lambda line: None) -> Calibration:
    """Measure the instrument on this machine. Takes about `duration_s` + 3 seconds a level, and three more.

    Raises ValueError or LocustFailed if a level gave no figures.
    """
    levels = []
    for streams in plan.streams:
        level = _level(plan, streams)
        levels.append(level)
        on_level(
            f"{streams:>5} streams: TTFT error p50 {level.ttft.p50:.2f} p99 {level.ttft.p99:.2f} ms, "
            f"ITL error p50 {level.itl.p50:.2f} p99 {level.itl.p99:.2f} ms, "
            f"{level.cpu_s_per_1000_events:.3f} CPU-s a 1,000 events, {level.events_per_second:.0f} events/s"
        )
    arrivals = [_arrived(plan, process) for process in ARRIVALS]
    for arrived in arrivals:
        on_level(
            f"{arrived.process:>13}: {arrived.rate} a second at the server, CV of the gaps {arrived.gap_cv}, "
            f"late p99 {arrived.late_p99_ms} ms"
        )
    unpaced = _unpaced(plan)
    on_level(f"      unpaced: {unpaced:.0f} events/s")
    return Calibration(
        calibration.fingerprint(),
        calibration.machine(),
        datetime.now(UTC).isoformat(timespec="seconds"),
        tuple(levels),
        tuple(arrivals),
        unpaced,
    )


def _level(plan: Plan, streams: int) -> Level:
    with _emitter(TTFT_MS, ITL_MS, TOKENS) as url:
        measures, records = _run(plan, url, users=streams)
        ttft, itl = calibration.errors(records, {each["id"]: each for each in _served(url)})
    used = generator(measures, 1)
    return Level(
        streams,
        round(measures.token_events / measures.window_s, 1),
        ttft,
        itl,
        used["cpu_seconds_per_1000_events"],
        used["may_be_the_bottleneck"],
    )


def _arrived(plan: Plan, process: str) -> Arrived:
    with _emitter(TTFT_MS, ITL_MS, TOKENS) as url:
        measures, _ = _run(plan, url, users=1000, arrivals=process)
        served = sorted(each["arrived_ns"] / 1e9 for each in _served(url)[1:])
    seen = rhythm(served)
    late = measures.late.quantiles_us([0.99])[0] / 1000
    return Arrived(process, seen["rate"], seen["gap_cv"], round(late, 3))


def _unpaced(plan: Plan) -> float:
    """Events a second that one process takes from streams that do not wait."""
    with _emitter(0.0, 0.0, UNPACED_TOKENS) as url:
        measures, _ = _run(plan, url, users=UNPACED_STREAMS)
    return round(measures.token_events / measures.window_s, 1)


def _run(plan: Plan, url: str, *, users: int, arrivals: str | None = None) -> tuple[Measures, list[Record]]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            url=url,
            model="emitter",
            users=users,
            duration_s=plan.duration_s,
            spawn_rate=float(users),
            seed=plan.seed,
            arrivals=arrivals,
            folder=folder,
        )
        measures, _ = run_locust(settings, Path(folder), api_key=None, on_progress=lambda state: None)
        return measures, list(read_records(Path(folder)))


@contextmanager
def _emitter(ttft_ms: float, itl_ms: float, tokens: int) -> Iterator[str]:
    """An emitter with this schedule; its URL."""
    options = {"--ttft-ms": ttft_ms, "--itl-ms": itl_ms, "--tokens": tokens}
    arguments = [str(part) for option in options.items() for part in option]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "realm_mocks.emitter", *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _served(url: str) -> list[dict[str, Any]]:
    """The emitter's own records: many megabytes, which is nothing for the exchange that measures."""
    with urllib.request.urlopen(f"{url}/mock/records") as answer:
        found: list[dict[str, Any]] = json.load(answer)
        return found
