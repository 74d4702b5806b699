"""Merged equals pooled; figures rebuilt from records equal those counted while running."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from realm_loadtests.figures.results import figures, generator
from realm_loadtests.records.measures import HIGHEST_US, Latency, Measures
from realm_loadtests.records.records import RECORDS_FILE, Outcome, Record, RecordFile, read_records

OUTCOMES: tuple[Outcome, ...] = ("completed", "failed", "cut")


@st.composite
def records(draw: st.DrawFn) -> Record:
    gaps = draw(st.lists(st.integers(0, 10_000_000), max_size=6))
    times = [sum(gaps[: end + 1]) for end in range(len(gaps))]
    outcome: Outcome = draw(st.sampled_from(OUTCOMES))
    tokens = draw(st.integers(0, 20))
    return Record(
        outcome=outcome,
        at_us=draw(st.integers(0, 10_000_000)),
        e2e_us=(times or [0])[-1] + draw(st.integers(0, 1000)),
        first_event_us=draw(st.none() | st.integers(0, 1000)),
        late_us=draw(st.none() | st.integers(0, 1_000_000)),
        prompt_tokens=draw(st.none() | st.integers(0, 500)),
        token_us=times,
        tokens=tokens,
        window_tokens=tokens,
        window_events=len(times),
        tokens_by=draw(st.sampled_from(["usage", "events"])),
        error=draw(st.sampled_from(["timeout", "http_500"])) if outcome == "failed" else None,
    )


def counted(parts: list[Record]) -> Measures:
    measures = Measures()
    for record in parts:
        measures.add(record)
    return measures


@given(st.lists(st.tuples(records(), st.integers(0, 3)), max_size=12))
@settings(deadline=None)
def test_however_requests_fall_to_workers_the_figures_are_one_process(shared: list[Any]) -> None:
    every = [record for record, _ in shared]
    master = Measures()
    for worker in range(4):
        part = counted([record for record, whose in shared if whose == worker])
        master.merge(Measures.from_json(json.loads(json.dumps(part.to_json()))))
    assert master.to_json() == counted(every).to_json()
    assert figures(master) == figures(counted(every))


@given(every=st.lists(records(), max_size=12))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_figures_rebuilt_from_the_file_are_the_same(every: list[Record], tmp_path: Path) -> None:
    (tmp_path / RECORDS_FILE).unlink(missing_ok=True)
    file = RecordFile(tmp_path)
    for record in every:
        file.write(record.to_json())
    file.close()
    with (tmp_path / RECORDS_FILE).open("a") as unfinished:
        unfinished.write('{"outcome":"completed","at_us":12')
    rebuilt = Measures.of(read_records(tmp_path))
    assert file.error is None
    assert rebuilt.to_json() | {"window_s": 0.0} == counted(every).to_json()


@given(st.lists(st.integers(1, HIGHEST_US), min_size=1, max_size=60), st.floats(0.001, 1))
@settings(deadline=None)
def test_a_quantile_is_the_nearest_rank_within_a_thousandth(values: list[int], rank: float) -> None:
    latency = Latency()
    for value in values:
        latency.record(value)
    exact = sorted(values)[max(1, math.ceil(rank * len(values) - 1e-9)) - 1]
    (found,) = latency.quantiles_us([rank])
    assert exact <= found <= exact * 1.001 + 1
    assert latency.mean_us == pytest.approx(sum(values) / len(values))


def test_one_slow_value_in_sixty_is_in_the_99th_percentile() -> None:
    latency = Latency()
    for value in [1000] * 59 + [200_000]:
        latency.record(value)
    assert latency.quantiles_us([0.99])[0] >= 200_000


def test_without_values_there_is_no_figure() -> None:
    latency = Latency()
    latency.add(Latency())
    assert latency.count == 0
    assert math.isnan(latency.mean_us)
    assert math.isnan(latency.quantiles_us([0.5])[0])


def test_only_completed_requests_have_latencies() -> None:
    token_us = [10_000, 15_000, 215_000]
    measures = Measures()
    for outcome in OUTCOMES:
        measures.add(Record(outcome, at_us=0, e2e_us=220_000, token_us=token_us, tokens=3, window_tokens=3))
    assert (measures.ttft.count, measures.itl.count, measures.e2e.count) == (1, 2, 1)
    assert (measures.requests, measures.completed, measures.failed, measures.cut) == (3, 1, 1, 1)
    assert measures.window_tokens == 6
    assert (measures.decode_tokens, measures.decode_us) == (2, 205_000)
    # Every gap counts: a mean over the request would hide the stall in 102.5 ms.
    assert measures.itl.quantiles_us([0.5, 1.0]) == pytest.approx([5_000, 200_000], rel=1e-3)


def test_a_full_disk_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / RECORDS_FILE).symlink_to("/dev/full")
    file = RecordFile(tmp_path)
    file.write({"outcome": "cut"})
    file.write({"outcome": "cut"})
    assert file.error is not None
    assert "could not be written" in file.error
    file.close()


def test_a_generator_that_wakes_late_is_told_though_its_cpu_is_idle() -> None:
    measures = Measures(window_s=10.0, cpu_s=0.5)
    for _ in range(100):
        measures.lag.record(200)
    assert not generator(measures, 1)["may_be_the_bottleneck"]
    for _ in range(5):
        measures.lag.record(30_000)
    assert generator(measures, 1)["may_be_the_bottleneck"]
    assert generator(Measures(window_s=10.0, cpu_s=9.5), 1)["may_be_the_bottleneck"]
    assert not generator(Measures(window_s=10.0, cpu_s=9.5), 2)["may_be_the_bottleneck"]
