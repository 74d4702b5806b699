"""What a report says of schedules that nobody has seen: against the truth, on a clock that the test turns.

The bytes of drawn streams go through the reading, the records and the figures as in a run, only the moment of
each read is the schedule's: so nothing is left for a busy machine to spoil, and what differs is a mistake.
"""

from __future__ import annotations

import json
from itertools import pairwise
from math import ceil
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from realm_loadtests.figures import stalls
from realm_loadtests.figures.results import figures
from realm_loadtests.records.collector import Collector
from realm_loadtests.records.measures import Measures
from realm_loadtests.records.records import Record
from realm_loadtests.scenarios import Ask, user_scenario
from realm_loadtests.settings import Settings
from realm_loadtests.users.asking import Asker
from realm_loadtests.wire.exchange import Timing, stream_chat
from realm_mocks.server import Schedule

MS = 1_000_000
RANKS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
# Three significant digits of a histogram, the microsecond below and its own rounding up.
WITHIN = {"rel": 2e-3, "abs": 0.003}

waits = st.floats(0, 0.05).map(lambda seconds: round(seconds, 6))


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Jitter, stalls, two modes, drift: any of them, and all together."""
    ttft, itl = draw(waits), draw(waits)
    tokens = draw(st.integers(2, 24))
    late = st.tuples(st.integers(0, tokens - 1), st.floats(0, 0.5))
    return Schedule(
        ttft,
        itl,
        tokens,
        tuple(draw(st.lists(late, max_size=2))),
        draw(st.floats(0, 1)) * min(ttft, itl),
        draw(st.tuples(st.floats(0, 1), st.floats(0, 0.2))),
        draw(st.floats(0, 0.1)),
        draw(st.integers(0, 2**32)),
    )


class Wire:
    """A connection on which each read ends when the next piece is due. All moments are nanoseconds."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.pieces: list[tuple[int, bytes]] = []

    def ensure_open(self, deadline: int | None) -> int:
        return 0

    def send(self, request: bytes, deadline: int | None) -> int:
        return self.now

    def receive(self, deadline: int | None, now: int) -> tuple[bytes, int]:
        self.now, data = self.pieces.pop(0)
        return data, self.now

    def close(self) -> None:
        raise AssertionError("the connection was to be kept")


class Replayed:
    """A user's line on which scheduled answers come, cut into reads by chance; keeps when they were sent."""

    def __init__(self, schedule: Schedule, begin: int, wire: Any, cuts: Random) -> None:
        self.connection, self.schedule, self.wire, self.cuts = Wire(begin), schedule, wire, cuts
        self.ttft: list[float] = []
        self.gaps: list[float] = []
        self.e2e: list[float] = []

    def ask(self, ask: Ask, timing: Timing) -> None:
        begin = self.connection.now
        assert self.schedule.tokens is not None
        offsets = [round(s * 1e9) for s in self.schedule.of(len(self.ttft)).offsets(self.schedule.tokens)]
        self.ttft.append(offsets[0] / MS)
        self.e2e.append(offsets[-1] / MS)
        self.gaps += [(after - before) / MS for before, after in pairwise(offsets)]
        framed = self.wire.framed
        self._read(begin, begin, self.wire.head + framed(self.wire.chunk()))  # a role is no token
        for before, offset in pairwise([0, *offsets]):
            self._read(begin + before, begin + offset, framed(self.wire.chunk("a")))
        rest = [self.wire.chunk(finish="stop"), self.wire.done]
        self._read(begin + offsets[-1], begin + offsets[-1], b"".join(map(framed, rest)) + self.wire.end)
        stream_chat(self.connection, b"", timing, timeout=None)  # type: ignore[arg-type]

    def _read(self, since: int, due: int, event: bytes) -> None:
        """An event in one read, or its first bytes, without the line feed that ends it, in one before."""
        cut = self.cuts.choice([0, 0, self.cuts.randrange(len(event) - 2)])
        if cut:
            self.connection.pieces.append((self.cuts.randint(since, due), event[:cut]))
        self.connection.pieces.append((due, event[cut:]))

    def close(self) -> None:
        pass


def replay(schedule: Schedule, answers: int, wire: Any, seed: int) -> tuple[Replayed, Measures, list[Record]]:
    """A run of so many answers, one after the other: the truth, and what was counted and written."""
    told = Settings(url="http://127.0.0.1:1", model="scripted", timeout_s=3600.0)
    collector, records = Collector(None), list[Record]()
    collector.start(10**15)
    environment = SimpleNamespace(
        runner=SimpleNamespace(worker_index=0),
        events=SimpleNamespace(request=SimpleNamespace(fire=lambda **_: None)),
    )
    collect, collector.add = collector.add, lambda record: (records.append(record), collect(record))[1]  # type: ignore[method-assign]
    line = Replayed(schedule, collector.started, wire, Random(seed))
    asker, scenario = Asker(environment, told, collector), user_scenario(told, 0, 0)
    for _ in range(answers):
        assert asker.ask(line, scenario, 0) is None
    return line, collector.measures, records


def nearest_rank(values: list[float], rank: float) -> float:
    return sorted(values)[max(1, ceil(rank * len(values))) - 1]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=schedules(), answers=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_a_report_has_the_percentiles_of_what_was_sent(
    schedule: Schedule, answers: int, seed: int, wire: Any
) -> None:
    line, measures, _ = replay(schedule, answers, wire, seed)
    found = figures(measures)
    assert found["completed"] == found["requests"] == answers
    assert found["tokens"] == answers * (schedule.tokens or 0)
    for name, true in {"ttft_ms": line.ttft, "itl_ms": line.gaps, "e2e_ms": line.e2e}.items():
        assert found[name]["count"] == len(true)
        reported = {rank: found[name][rank] for rank in RANKS}
        assert reported == pytest.approx({rank: nearest_rank(true, RANKS[rank]) for rank in RANKS}, **WITHIN)
        assert found[name]["mean"] == pytest.approx(sum(true) / len(true), rel=1e-6, abs=0.0015)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=schedules(), answers=st.integers(1, 10), seed=st.integers(0, 2**32))
def test_the_records_give_the_figures_of_the_run_again(
    schedule: Schedule, answers: int, seed: int, wire: Any
) -> None:
    _, measures, records = replay(schedule, answers, wire, seed)
    lines = [Record(**json.loads(json.dumps(record.to_json()))) for record in records]
    again = Measures.of(lines)
    again.window_s = measures.window_s
    assert figures(again) == figures(measures)


@pytest.mark.parametrize("at", [1, 7, 15])
def test_a_stall_in_each_stream_cannot_hide(at: int, wire: Any) -> None:
    line, measures, records = replay(Schedule(0.02, 0.005, 16, ((at, 0.2),), jitter=0.004), 64, wire, at)
    long = [gap for gap in line.gaps if gap > 150]
    counts, lengths = stalls.find(records, stalls.threshold_us(measures.itl, 4.0))
    assert (counts["count"], counts["streams"], counts["share_of_streams"]) == (64, 64, 1.0)
    assert lengths.quantiles_us([1.0])[0] / 1000 == pytest.approx(max(long), **WITHIN)
    assert figures(measures)["itl_ms"]["p99"] > 150
