"""`realm load --arrivals` as its user runs it: what is sent when, whatever the server does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from realm_loadtests.users.arrivals import Arrivals
from realm_mocks.server import MockServer, Schedule

SLOW = Schedule(ttft=0.4, itl=0.01, tokens=4)


def intended_us(records: list[dict[str, Any]]) -> list[int]:
    return sorted(record["at_us"] - record["late_us"] for record in records)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_every_moment_of_the_schedule_is_sent_once(run_load: Callable[..., Any], processes: str) -> None:
    with MockServer(SLOW) as server:
        run = run_load(
            server.url,
            "--arrivals",
            "poisson:20",
            "--duration",
            "2s",
            "--seed",
            "3",
            "--processes",
            processes,
        )
        served = len(server.records) - 1
    wanted = [moment * 1e6 for moment in Arrivals.parse("poisson:20").offsets(3, 2.0)]
    assert len(run.records) == served == len(wanted)
    # Answers take 0.4 s: a closed loop of any size would have bunched the requests.
    assert intended_us(run.records) == pytest.approx(wanted, abs=2)
    assert all(record["late_us"] >= 0 for record in run.records)
    assert run.result["arrivals"]["late_ms"]["count"] == served
    assert run.code in (0, 3)  # 3: on a busy machine the generator says that it was late


def test_a_server_that_lets_wait_cannot_hide_it(run_load: Callable[..., Any]) -> None:
    """With one stream at a time, answers of 0.4 s and a request each 0.1 s, the queue grows by 0.3 s each."""
    with MockServer(SLOW) as server:
        run = run_load(server.url, "--arrivals", "constant:10", "--duration", "1s", "--users", "1")
    figures, arrivals = run.result["figures"], run.result["arrivals"]
    assert figures["completed"] == 10
    assert figures["ttft_ms"]["max"] >= 400 + 9 * 300
    assert figures["ttft_ms"]["max"] >= arrivals["ttft_from_sending_ms"]["max"] + 9 * 250
    assert run.code == 3
    assert "a wait that a closed loop hides" in run.stdout


def test_a_missed_objective_has_its_own_exit_code(run_load: Callable[..., Any]) -> None:
    with MockServer(SLOW) as server:
        run = run_load(
            server.url, "--duration", "1s", "--users", "1", "--slo", "ttft_p50<300ms,error_rate<1%"
        )
    assert [verdict["met"] for verdict in run.result["slo"]] == [False, True]
    assert run.result["figures"]["goodput"] == 0
    assert run.code in (3, 4)
    assert "SLO MISSED ttft_p50<300ms" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--arrivals", "often"), "is no arrival process"), (("--slo", "fast"), "is no objective")],
)
def test_mistakes_are_told_before_anything_starts(
    run_load: Callable[..., Any], arguments: tuple[str, str], said: str
) -> None:
    run = run_load("http://127.0.0.1:9", *arguments)
    assert run.code == 2
    assert said in run.stderr


def test_what_could_not_be_sent_is_counted(run_load: Callable[..., Any]) -> None:
    with MockServer(Schedule(ttft=1.5, itl=0.01, tokens=2)) as server:
        run = run_load(
            server.url, "--arrivals", "constant:5", "--duration", "2s", "--users", "1", "--drain", "0.2"
        )
    figures = run.result["figures"]
    assert figures["requests"] == 10
    assert figures["errors"]["not_sent"] >= 6
    assert run.code == 1
