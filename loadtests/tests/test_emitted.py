"""A whole run against the emitter on an uneven schedule: the report beside the record of what was sent.

Nothing here is held to the schedule's times, which a busy machine moves for both: what the client reports is
held to what was sent to it, and its stamps are those of the arrival, whenever it came to read them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import ceil
from typing import Any

import pytest
from realm_mocks.emitter import Emitter
from realm_mocks.server import Schedule

ITL_MS, SLOW_MS, TOKENS = 40.0, 300.0, 8
# A quarter of the shortest usual wait: far more than stamps differ by, far less than two modes do.
WITHIN_MS = ITL_MS / 4


@contextmanager
def emitting(schedule: Schedule) -> Iterator[Emitter]:
    running = Emitter(schedule)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        yield running
    finally:
        running.stop()
        thread.join(10)


def nearest_rank(values: list[float], rank: float) -> float:
    return sorted(values)[max(1, ceil(rank * len(values))) - 1]


def test_a_report_has_the_percentiles_of_the_emitters_record(run_load: Callable[..., Any]) -> None:
    schedule = Schedule(
        0.06, ITL_MS / 1e3, TOKENS, jitter=0.01, slow=(0.3, SLOW_MS / 1e3), drift=0.01, seed=5
    )
    with emitting(schedule) as emitter:
        run = run_load(emitter.url, "--users", "4", "--duration", "2s")
        served = {record.id: record for record in emitter.records}
    assert run.code == 0
    completed = [record for record in run.records if record["outcome"] == "completed"]
    assert len(completed) >= 4
    truths = [served[record["response_id"]] for record in completed]
    assert [len(record["token_us"]) for record in completed] == [len(truth.sent_ns) for truth in truths]
    gaps = [(after - before) / 1e6 for truth in truths for before, after in pairwise(truth.sent_ns)]
    waits = [(truth.sent_ns[0] - truth.arrived_ns) / 1e6 for truth in truths]
    figures = run.result["figures"]
    for name, rank in {"p50": 0.5, "p90": 0.9, "p99": 0.99}.items():
        assert figures["itl_ms"][name] == pytest.approx(nearest_rank(gaps, rank), abs=WITHIN_MS, rel=0.05)
        # The request was sent before the emitter had it: no figure may be less than the emitter's own.
        assert figures["ttft_ms"][name] > nearest_rank(waits, rank) - WITHIN_MS
