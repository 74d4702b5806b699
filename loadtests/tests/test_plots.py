"""Plots are well-formed, small, and the same for the same records."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from realm_loadtests.records.records import Record
from realm_loadtests.report.plots import draw, open_streams

OVER_TIME = ("ttft_over_time", "itl_over_time")
DISTRIBUTIONS = ("ttft_cdf", "itl_cdf", "itl_histogram", "e2e_cdf")


def some_records(count: int, *, stall: bool = False) -> list[Record]:
    chance = random.Random(1)
    records = []
    for number in range(count):
        times = [chance.randint(15_000, 30_000)]
        for _ in range(31):
            times.append(times[-1] + chance.randint(4_000, 6_000))
        if stall:
            times[-1] += 2_000_000
        records.append(Record("completed", at_us=number * 10_000, e2e_us=times[-1], token_us=times))
        records.append(Record("failed", at_us=number * 10_000, e2e_us=5, error="timeout"))
    return records


def test_plots_are_svg_without_script_and_fit_their_place() -> None:
    plots = draw(some_records(200, stall=True))
    assert set(plots) == {*OVER_TIME, *DISTRIBUTIONS, "ttft_against_streams"}
    for svg in plots.values():
        root = ET.fromstring(svg)
        assert root.get("viewBox")
        assert root.get("aria-label")
        assert root.get("width") is None  # the page decides, so that it fits a phone
        assert "<script" not in svg
        assert "http://" not in svg.replace("http://www.w3.org/", "")
        assert len(svg) < 60_000


def test_the_same_records_give_the_same_bytes() -> None:
    assert draw(some_records(20)) == draw(some_records(20))


def test_plots_do_not_share_ids() -> None:
    """They stand in one page, where an id of one plot must not point into another."""
    clip_paths = [
        {element.get("id") for element in ET.fromstring(svg).iter() if element.tag.endswith("clipPath")}
        for svg in draw(some_records(20)).values()
    ]
    assert len(set.union(*clip_paths)) == sum(map(len, clip_paths)) > 0


def test_little_is_drawn_and_nothing_is_not() -> None:
    assert draw([]) == {}
    assert draw([Record("failed", at_us=0, e2e_us=1, error="timeout")]) == {}
    one_token = Record("completed", at_us=0, e2e_us=9_000, token_us=[8_000])
    assert set(draw([one_token])) == {"ttft_over_time", "ttft_cdf", "e2e_cdf"}


@pytest.mark.parametrize(("count", "at_us"), [(1, 0), (2, 7_654_321), (9, 0)])
def test_records_of_the_same_moment_are_drawn(count: int, at_us: int) -> None:
    records = [replace(record, at_us=at_us) for record in some_records(count)]
    assert set(draw(records)) == {*OVER_TIME, *DISTRIBUTIONS}
    assert draw([record for record in records if record.outcome == "failed"]) == {}


def test_what_the_result_found_is_drawn_with_the_records() -> None:
    """The warm-up, the tenants and the server's own figures come from the result, as its text says them."""
    each = {name: {"tokens_per_second": rate} for name, rate in (("$one$", 10.0), ("two", 30.0))}
    points = [{"at_s": at, "running": at, "waiting": None} for at in (0.0, 1.0, 2.0)]
    result = {
        "steady": {"warm_up_s": 0.5},
        "tenants": {"each": each},
        "server": {"over_time": points},
    }
    plots = draw(some_records(200), result)
    assert set(plots) >= {"tokens_by_tenant", "server_over_time"}
    assert "$one$" in plots["tokens_by_tenant"]
    assert "warm-up" in plots["ttft_over_time"]
    assert "warm-up" not in draw(some_records(200))["ttft_over_time"]


def test_streams_are_those_open_when_a_request_was_sent() -> None:
    """Alone, with one before it, with two: and what has ended at that moment is no longer open."""
    times = ((0, 100), (50, 100), (60, 100), (160, 10))
    records = [Record("completed", at_us=at, e2e_us=long, token_us=[long - 5]) for at, long in times]
    assert open_streams(records, records).tolist() == [1, 2, 3, 1]
