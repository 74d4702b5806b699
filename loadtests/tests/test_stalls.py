"""Stalls: what a mean hides is counted, whoever is stalled and however long."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_loadtests.figures.stalls import SHORTEST_MS, find, threshold_us
from realm_loadtests.records.measures import Measures
from realm_loadtests.records.records import Record

FACTOR = 4.0


def stream(*gaps_ms: float, outcome: str = "completed") -> Record:
    times = [20_000, *(20_000 + round(1000 * at) for at in accumulate(gaps_ms))]
    return Record(outcome, 0, times[-1], token_us=times, tokens=len(times))  # type: ignore[arg-type]


def limit_us(records: list[Record], factor: float = FACTOR) -> float:
    measures = Measures.of(records)
    return threshold_us(measures.itl, factor)


def test_a_stall_in_each_stream_is_seen_and_measured() -> None:
    run = [stream(*[5.0] * 10, 205.0, *[5.0] * 20) for _ in range(64)]
    counts, lengths = find(run, limit_us(run))
    assert counts == {
        "count": 64,
        "streams": 64,
        "of_streams": 64,
        "share_of_streams": 1.0,
        "share_of_time": pytest.approx(205 / 355, abs=1e-6),
    }
    assert lengths.quantiles_us([0.5, 1.0]) == pytest.approx([205_000, 205_000], rel=2e-3)


@given(st.integers(0, 40), st.integers(1, 3), st.floats(5, 60))
def test_every_stall_counts_once(stalled: int, each: int, usual_ms: float) -> None:
    long = usual_ms * FACTOR * 1.01 + SHORTEST_MS
    run = [stream(*[usual_ms] * 10, *[long] * each) for _ in range(stalled)]
    run += [stream(*[usual_ms] * 10) for _ in range(41 - stalled)]
    counts, lengths = find(run, limit_us(run))
    assert (counts["count"], counts["streams"], counts["of_streams"]) == (stalled * each, stalled, 41)
    assert lengths.count == stalled * each


def test_the_multiple_is_a_setting_and_bunches_are_no_stalls() -> None:
    run = [stream(*[5.0] * 10, 18.0)]
    assert find(run, limit_us(run))[0]["count"] == 0
    assert find(run, limit_us(run, factor=3))[0]["count"] == 1
    bunched = [stream(*[0.0, 0.0, 9.0] * 10)]
    assert limit_us(bunched) == 1000 * SHORTEST_MS
    assert find(bunched, limit_us(bunched))[0]["count"] == 0


def test_only_completed_streams_have_stalls_and_none_is_no_share() -> None:
    run = [stream(*[5.0] * 10), stream(*[5.0] * 10, 500.0, outcome="cut")]
    assert find(run, limit_us(run))[0]["count"] == 0
    nothing, lengths = find([], limit_us([]))
    assert (nothing["count"], nothing["share_of_streams"], nothing["share_of_time"]) == (0, None, None)
    assert lengths.count == 0
