"""What a report says of a run's course: outages and drift, on records whose course is known."""

from __future__ import annotations

import numpy as np
from realm_loadtests.figures.course import drift, outages
from realm_loadtests.records.records import Record
from realm_loadtests.report.course import course


def ended(at_s: float, error: str | None = None) -> Record:
    return Record("failed" if error else "completed", int(at_s * 1e6), 1000, error=error)


def test_an_outage_is_from_the_last_success_to_the_next() -> None:
    down = [ended(2 + n / 10, "connection_reset" if n < 2 else "connect_refused") for n in range(8)]
    alone = [ended(0.5, "timeout")]
    found = outages([ended(1.0), *alone, *down, ended(4.0), ended(5.0)])
    (outage,) = found
    assert (outage["from_s"], outage["to_s"], outage["failed"]) == (1.001, 4.001, 8)
    assert outage["errors"] == {"connect_refused": 6, "connection_reset": 2}
    said = course({"outages": found, "drift": None})
    assert said[1].startswith("  From 1.0 s to 4.0 s nothing was completed: 8 failed (connect_refused 6,")


def test_an_outage_without_an_end_reaches_to_it() -> None:
    (outage,) = outages([ended(1.0), *[ended(2 + n, "timeout") for n in range(5)]])
    assert outage["to_s"] is None
    (whole,) = outages([ended(float(n), "timeout") for n in range(5)])
    assert whole["from_s"] is None
    assert outages([ended(1.0), *[ended(2 + n, "timeout") for n in range(4)]]) == []


def soak(slower: float) -> list[Record]:
    """Ten requests a second for 90 s whose first token takes 100 ms, and by the end so many times as long."""
    draw = np.random.default_rng(3)
    made = []
    for at_s in np.arange(0, 90, 0.1):
        first = int(100_000 * (1 + (slower - 1) * at_s / 90) * np.exp(0.05 * draw.standard_normal()))
        made.append(
            Record("completed", int(at_s * 1e6), first + 1000, token_us=[first, first + 1000], tokens=2)
        )
    return made


def test_a_server_that_slows_down_has_a_drift_and_a_steady_one_none() -> None:
    slow, steady = (drift(soak(slower), 0.0, 90.0, seed=1) for slower in (1.5, 1.0))
    assert slow is not None
    assert steady is not None
    verdicts = {each["figure"]: each["verdict"] for each in slow["figures"]}
    assert verdicts["ttft_p50"] == "worse"
    assert {each["verdict"] for each in steady["figures"] if each["figure"] == "ttft_p50"} == {"same"}
    assert "Drift: ttft_p50 +" in "\n".join(course({"outages": [], "drift": slow}))


def test_a_short_run_says_nothing_of_drift() -> None:
    assert drift(soak(2.0), 0.0, 29.0, seed=1) is None
    assert drift([], 0.0, 60.0, seed=1) is None
