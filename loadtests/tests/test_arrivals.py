"""Arrival processes: their rhythm, their split over processes, and what is none."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realm_loadtests.users.arrivals import Arrivals, ArrivalsError, rhythm

SEED = 7


def moments(text: str, duration_s: float, seed: int = SEED) -> list[float]:
    return list(Arrivals.parse(text).offsets(seed, duration_s))


@pytest.mark.parametrize(
    ("text", "cv", "within"),
    [("constant:100", 0.0, 1e-9), ("poisson:100", 1.0, 0.05), ("gamma:100:3", 3.0, 0.3)],
)
def test_gaps_have_the_rate_and_the_variation_asked_for(text: str, cv: float, within: float) -> None:
    sent = moments(text, 200.0)
    found = rhythm(sent)
    assert found["rate"] == pytest.approx(100, rel=0.08)
    assert found["gap_cv"] == pytest.approx(cv, abs=within)
    assert sent == sorted(sent)
    assert all(0 <= moment < 200 for moment in sent)


@pytest.mark.parametrize(("text", "count"), [("ramp:0-20", 100), ("ramp:20-0", 100), ("ramp:10-10", 100)])
def test_a_ramp_sends_its_mean_rate_and_moves_from_end_to_end(text: str, count: int) -> None:
    sent = moments(text, 10.0)
    assert len(sent) == pytest.approx(count, abs=1)
    first, last = sum(moment < 5 for moment in sent), sum(moment >= 5 for moment in sent)
    low, high = sorted((first, last))
    assert (high > 2.5 * low) == (text != "ramp:10-10")
    assert (first < last) == (text == "ramp:0-20")


@given(
    st.sampled_from(["constant:40", "poisson:40", "gamma:40:2", "ramp:10-70"]),
    st.integers(0, 2**31),
    st.integers(1, 7),
)
@settings(deadline=None, max_examples=40)
def test_the_shares_of_several_processes_are_one_processes_moments(text: str, seed: int, parts: int) -> None:
    arrivals = Arrivals.parse(text)
    shares = [list(arrivals.share(seed, 5.0, part, parts)) for part in range(parts)]
    assert sorted(itertools.chain(*shares)) == list(arrivals.offsets(seed, 5.0))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_seeds_decide() -> None:
    assert moments("poisson:50", 5.0, seed=1) == moments("poisson:50", 5.0, seed=1)
    assert moments("poisson:50", 5.0, seed=1) != moments("poisson:50", 5.0, seed=2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "mooncake.jsonl",
            '{"timestamp": 2000, "input_length": 5}\n{"timestamp": 500}\n\n{"timestamp": 3500}',
        ),
        (
            "azure.csv",
            "TIMESTAMP,ContextTokens,GeneratedTokens\n"
            "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:05.4799600,110,27\n"
            "2023-11-16 18:17:06.9799600,1,1\n",
        ),
        ("burstgpt.csv", "Timestamp,Model,Request tokens\n5,ChatGPT,472\n6.5,ChatGPT,1\n8,GPT-4,2\n"),
    ],
)
def test_public_traces_are_replayed_from_their_first_stamp(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    arrivals = f"trace:{tmp_path / name}"
    assert moments(arrivals, 60.0) == pytest.approx([0.0, 1.5, 3.0])
    assert len(moments(arrivals, 2.0)) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("poisson", "is no arrival process; write constant:RATE"),
        ("poisson:", "is no arrival process"),
        ("poisson:-1", "is no arrival process"),
        ("poisson:nan", "is no arrival process"),
        ("poisson:0", "rates lie above 0"),
        ("ramp:0-0", "rates lie above 0"),
        ("constant:1000000", "up to 100000"),
        ("gamma:10", "is no arrival process"),
        ("gamma:10:0", "the CV up to 100"),
        ("users:10", "is no arrival process"),
        ("trace:", "is no arrival process"),
        ("trace:/nowhere/at/all.csv", "cannot be read as a trace: No such file"),
    ],
)
def test_what_is_none_is_told_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ArrivalsError, match=said):
        Arrivals.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column 'timestamp'"),
        ("when,what\n1,2\n", "has no column 'timestamp'"),
        ("timestamp\n", "holds no time stamps"),
        ("timestamp\n1\nsoon\n", "line 3: no time stamp"),
        ("timestamp\n1\ninf\n", "line 3: no time stamp"),
        ('{"timestamp": 1}\n{"time": 2}\n', "line 2: no time stamp"),
        ('{"timestamp": 1}\n[', "line 2: no time stamp"),
    ],
)
def test_a_broken_trace_is_told_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(ArrivalsError, match=said):
        Arrivals.parse(f"trace:{tmp_path / 't'}")


def test_a_rhythm_needs_gaps() -> None:
    assert rhythm([]) == rhythm([1.0, 2.0]) == {"rate": None, "gap_cv": None}


def test_steps_and_spikes_have_their_rates() -> None:
    steps = list(Arrivals.parse("steps:2-6:3").offsets(0, 30))
    assert [sum(begin <= at < begin + 10 for at in steps) for begin in (0, 10, 20)] == [20, 40, 60]
    spike = list(Arrivals.parse("spike:1-50").offsets(0, 50))
    assert [sum(begin <= at < begin + 10 for at in spike) for begin in range(0, 50, 10)] == [
        10,
        10,
        500,
        10,
        10,
    ]
    assert spike == sorted(spike)
    quiet = list(Arrivals.parse("spike:0-5").offsets(0, 10))
    assert len(quiet) == 10
    assert 4 <= quiet[0] <= quiet[-1] < 6


@pytest.mark.parametrize("text", ["steps:1-2", "steps:1-2:0", "spike:5", "spike:0-0"])
def test_what_are_no_steps_is_refused(text: str) -> None:
    with pytest.raises(ArrivalsError):
        Arrivals.parse(text)
