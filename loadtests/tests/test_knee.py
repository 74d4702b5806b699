"""The knee: found where it is, with an interval that says how sure that is."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from realm_loadtests.commands.load import load
from realm_loadtests.figures import slo
from realm_loadtests.records.records import Record
from realm_loadtests.runs.knee import Knee, Step, find, holds


def search(knee: float, lowest: float, highest: float, refinements: int = 4) -> Knee:
    """Against a server whose objectives hold less and less surely around `knee`."""

    def step(rate: float) -> Step:
        return Step(rate, 1 / (1 + math.exp(min(700, 40 * math.log(rate / knee)))), client_limited=False)

    return find(step, lowest, highest, refinements)


@given(st.floats(1.5, 60))
def test_the_knee_is_found_between_the_rates(knee: float) -> None:
    found = search(knee, 1, 64)
    assert found.rate == pytest.approx(knee, rel=0.06)
    assert found.low is not None
    assert found.high is None or found.low < knee * 1.1
    assert found.low <= found.rate
    assert found.high is None or found.rate <= found.high
    assert [step.rate for step in found.steps] == sorted(step.rate for step in found.steps)


def test_a_server_beyond_the_rates_is_told() -> None:
    assert search(1000, 1, 8).rate is None
    assert search(1000, 1, 8).low == 8
    slow = search(0.1, 1, 8)
    assert (slow.rate, slow.low, slow.high) == (None, None, 1)
    assert len(slow.steps) == 1


def test_how_surely_objectives_hold_is_the_share_of_resamples() -> None:
    def run_of(*ttft_ms: int) -> list[Record]:
        return [Record("completed", 0, ms * 1000, token_us=[ms * 1000], tokens=1) for ms in ttft_ms]

    objectives = slo.parse("ttft_p50<150ms,error_rate<10%,requests_per_second>1000")
    assert holds(run_of(*[100] * 50), objectives, seed=1) == 1
    assert holds(run_of(*[200] * 50), objectives, seed=1) == 0
    assert 0.1 < holds(run_of(*[100] * 25, *[200] * 25), objectives, seed=1) < 0.9
    assert holds([*run_of(*[100] * 50), *[Record("failed", 0, 1)] * 50], objectives, seed=1) == 0
    assert holds([], objectives, seed=1) == 0


def test_the_command_finds_where_a_server_queues(
    scripted_server: Callable[..., Any], wire: Any, tmp_path: Path
) -> None:
    """One answer at a time, a tenth of a second each: ten a second at most, and fewer without a queue."""
    place = threading.Lock()

    def answer(connection: Any, request: bytes) -> None:
        if request.startswith(b"GET"):
            connection.sendall(wire.models)
            return
        with place:
            time.sleep(0.1)
        connection.sendall(wire.chunked(*wire.healthy))

    arguments = ["knee", scripted_server(answer).url, "--slo", "ttft_p90<400ms", "--each", "2s"]
    more = ["--from", "2", "--to", "64", "--refine", "0", "--out", str(tmp_path)]
    outcome = CliRunner().invoke(load, [*arguments, *more])
    assert outcome.exit_code in (0, 3), outcome.output
    found = json.loads((tmp_path / "knee.json").read_text())
    assert 2 <= found["rate"] <= 32
    assert "hold up to" in outcome.output
    assert (tmp_path / "rate-2.000" / "load.json").exists()
    assert all(step["figures"]["ttft_p99_ms"] >= 100 for step in found["steps"])
    assert "Time to first token, by rate" in (tmp_path / "report.html").read_text()


def test_mistakes_are_told(tmp_path: Path) -> None:
    for arguments, said in (
        (("http://127.0.0.1:9", "--slo", "fast"), "is no objective"),
        (("http://127.0.0.1:9",), "Missing option '--slo'"),
        (("http://127.0.0.1:9", "--slo", "ttft_p50<1s", "--from", "4", "--to", "2"), "is below --from"),
        (("http://127.0.0.1:9", "--slo", "ttft_p50<1s"), "is not there"),
    ):
        outcome = CliRunner().invoke(load, ["knee", *arguments, "--out", str(tmp_path / "o")])
        assert outcome.exit_code == 2, arguments
        assert said in outcome.output
