"""Objectives: how they are written, judged against a run, and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from realm_loadtests.figures import slo
from realm_loadtests.figures.results import figures
from realm_loadtests.records.measures import Measures
from realm_loadtests.records.records import Record


def run_of(*ttft_ms: int, failed: int = 0) -> tuple[list[Record], dict[str, Any]]:
    records = [
        Record("completed", 0, ms * 1000 + 20_000, token_us=[ms * 1000, ms * 1000 + 20_000], tokens=2)
        for ms in ttft_ms
    ]
    records += [Record("failed", 0, 1, error="timeout")] * failed
    measures = Measures.of(records)
    measures.window_s = 10.0
    return records, figures(measures)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("ttft_p50<101ms", True),
        ("ttft_p50<100us", False),
        ("ttft_p99<0.3s", False),
        ("ttft_p75<=101ms", True),
        ("ttft_max<401ms", True),
        ("e2e_p50 < 121 ms", True),
        ("itl_p99.9<21ms", True),
        ("tpot_p50<20ms", False),
        ("error_rate<20.1%", True),
        ("error_rate<0.2", False),
        ("requests_per_second>=0.4", True),
        ("requests_per_second>0.4", False),
    ],
)
def test_an_objective_is_judged_by_the_runs_own_figures(text: str, met: bool) -> None:
    _, found = run_of(100, 100, 100, 400, failed=1)
    (objective,) = slo.parse(text)
    assert objective.judge(found)["met"] is met


def test_without_values_nothing_shows_that_it_held() -> None:
    _, found = run_of(failed=1)
    (objective,) = slo.parse("ttft_p99<300ms")
    assert objective.judge(found) == {"objective": "ttft_p99<300ms", "value": None, "met": False}


def test_goodput_counts_requests_that_kept_every_latency_limit() -> None:
    records, found = run_of(100, 100, 100, 400, failed=2)
    objectives = slo.parse("ttft_p99<300ms, itl_p99<50ms, error_rate<1%")
    assert slo.goodput(records, objectives, found["window_s"]) == pytest.approx(0.3)
    assert slo.goodput(records, slo.parse("tpot_p50<5ms"), 10.0) == 0
    late = Record("completed", 0, 1000, token_us=[1000], tokens=1, late_us=900_000)
    assert not slo.good(late, objectives)


def test_a_file_holds_them_by_lines_with_comments(tmp_path: Path) -> None:
    (tmp_path / "slo").write_text("# ours\nttft_p99<300ms, itl_p99<50ms  # both\n\nerror_rate<0.1%\n")
    assert len(slo.parse(f"@{tmp_path / 'slo'}")) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no objective is named; write for example ttft_p99<300ms"),
        ("ttft", "is no objective"),
        ("ttft_p99<300", "needs a quantile and a unit, as in ttft_p99<300ms"),
        ("ttft<300ms", "needs a quantile and a unit"),
        ("ttft_p100<3ms", "is no figure with limits"),
        ("ttft_p99=300ms", "is no objective"),
        ("speed<3", "'speed' is no figure with limits; there are ttft_pNN"),
        ("error_rate<3ms", "is no figure with limits"),
        ("@/nowhere/slo", "cannot be read: No such file"),
    ],
)
def test_what_is_none_is_told_with_an_example(text: str, said: str) -> None:
    with pytest.raises(slo.SloError, match=said):
        slo.parse(text)
