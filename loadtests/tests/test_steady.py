"""Where a warm-up ends, and how far a figure's interval reaches."""

from __future__ import annotations

import numpy as np
import pytest
from realm_loadtests.figures.resampling import intervals
from realm_loadtests.figures.steady import warm_up_s
from realm_loadtests.records.records import Record


def run_of(ttft_ms: list[float]) -> list[Record]:
    """A request each 100 ms."""
    return [
        Record(
            "completed",
            100_000 * n,
            int(1000 * ms) + 10_000,
            token_us=[int(1000 * ms), int(1000 * ms) + 10_000],
        )
        for n, ms in enumerate(ttft_ms)
    ]


def noise(count: int, mean_ms: float = 100, seed: int = 3) -> list[float]:
    return list(mean_ms + 5 * np.random.default_rng(seed).standard_normal(count))


def test_a_cold_begin_is_cut_off_where_it_ends() -> None:
    cold = [400 - 10 * n for n in range(30)] + noise(170)
    end = warm_up_s(run_of(cold))
    assert end is not None
    assert 2.0 <= end <= 4.0


def test_a_steady_run_has_no_warm_up_to_speak_of() -> None:
    end = warm_up_s(run_of(noise(200)))
    assert end is not None
    assert end <= 4.0


def test_a_run_that_only_gets_slower_is_never_steady() -> None:
    assert warm_up_s(run_of([100 + 3 * n for n in range(200)])) is None


def test_a_few_requests_say_nothing() -> None:
    assert warm_up_s(run_of(noise(49))) is None
    assert warm_up_s([]) is None


def test_an_interval_holds_the_truth_and_narrows_with_requests() -> None:
    widths = []
    for count in (50, 5000):
        low, high = intervals(run_of(noise(count)), ["ttft_p50"], seed=7)["ttft_p50"] or (0, 0)
        assert low <= 100.5
        assert high >= 99.5
        widths.append(high - low)
    assert widths[0] > 4 * widths[1]


def test_without_requests_there_is_no_interval() -> None:
    names = ["ttft_p50", "error_rate"]
    assert intervals([], names, seed=7) == {"ttft_p50": None, "error_rate": None}
    failed = [Record("failed", 0, 1, error="timeout")] * 5
    assert intervals(failed, names, seed=7) == {"ttft_p50": None, "error_rate": [1.0, 1.0]}
    assert intervals(run_of([1.0]), ["itl_p99"], seed=7)["itl_p99"] == pytest.approx([10.0, 10.0])
