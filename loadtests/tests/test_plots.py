"""Plots are well-formed, small, and the same for the same records."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET

from realm_loadtests.records.records import Record
from realm_loadtests.report.plots import draw


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
    assert set(plots) == {"ttft_over_time", "ttft_cdf", "itl_cdf", "itl_histogram"}
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
    assert set(draw([one_token])) == {"ttft_over_time", "ttft_cdf"}
