"""Schedules: what is drawn for each answer, within what was asked for, alike for a seed."""

from __future__ import annotations

import json
from itertools import pairwise
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from realm_mocks.emitter.__main__ import main
from realm_mocks.server import MockServer, Schedule


def waits(schedule: Schedule, count: int = 0) -> list[float]:
    offsets = schedule.offsets(count or schedule.tokens or 1)
    return [offsets[0], *(after - before for before, after in pairwise(offsets))]


def test_without_draws_all_answers_are_alike() -> None:
    plain = Schedule(0.02, 0.005, 8, ((3, 0.1), (1, 0.2)))
    assert plain.of(0) is plain.of(7) is plain
    assert waits(plain) == pytest.approx([0.02, 0.205, 0.005, 0.105, 0.005, 0.005, 0.005, 0.005])


@given(number=st.integers(0, 1000), seed=st.integers(0, 99), jitter=st.floats(0, 0.005))
def test_jitter_stays_within_its_bounds_and_is_drawn_for_each_answer(
    number: int, seed: int, jitter: float
) -> None:
    schedule = Schedule(0.02, 0.005, 16, jitter=jitter, seed=seed)
    drawn = waits(schedule.of(number))
    assert drawn == waits(schedule.of(number))
    base = [0.02, *[0.005] * 15]
    assert all(
        wait - at_least >= -jitter - 1e-9 and wait - at_least <= jitter + 1e-9
        for wait, at_least in zip(drawn, base, strict=True)
    )
    assert jitter < 1e-9 or drawn != waits(schedule.of(number + 1))


def test_slow_waits_are_a_second_mode_of_the_given_share() -> None:
    schedule = Schedule(0.02, 0.005, 50, slow=(0.3, 0.1))
    drawn = [wait for number in range(100) for wait in waits(schedule.of(number))[1:]]
    slow = [wait for wait in drawn if wait > 0.05]
    assert {round(wait, 6) for wait in drawn} == {0.005, 0.105}
    assert len(slow) / len(drawn) == pytest.approx(0.3, abs=0.03)


def test_a_drifting_server_is_slower_with_each_answer() -> None:
    schedule = Schedule(0.02, 0.005, 4, ((2, 0.1),), drift=0.5)
    assert waits(schedule.of(2)) == pytest.approx([2 * wait for wait in waits(schedule)])


@pytest.mark.parametrize(
    "wrong",
    [{"jitter": 0.006}, {"jitter": -0.001}, {"slow": (1.5, 0.1)}, {"slow": (0.5, -0.1)}, {"drift": -0.1}],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="schedule"):
        Schedule(0.02, 0.005, 4, **wrong)  # type: ignore[arg-type]


def test_the_command_says_what_cannot_be() -> None:
    result = CliRunner().invoke(main, ["--jitter-ms", "6", "--itl-ms", "5"])
    assert result.exit_code == 2
    assert "jitter within the shortest wait" in result.output


def test_each_answer_of_a_server_is_drawn() -> None:
    schedule = Schedule(0.002, 0.002, 4, jitter=0.002)
    body = {"model": "scripted-1", "messages": [{"role": "user", "content": "plain"}], "stream": True}
    with MockServer(schedule) as server:
        for _ in range(2):
            request = Request(f"{server.url}/v1/chat/completions", json.dumps(body).encode())
            request.add_header("Content-Type", "application/json")
            with urlopen(request, timeout=30) as answer:
                answer.read()
        due = [[moment - record.arrived_ns for moment in record.due_ns] for record in server.records]
    drawn = [[round(offset * 1e9) for offset in schedule.of(number).offsets(4)] for number in (1, 2)]
    assert due == drawn
    assert due[0] != due[1]
