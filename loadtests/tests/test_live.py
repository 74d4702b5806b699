"""What a run shows while it goes on: on the terminal, in a log, in locust's web UI."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from realm_loadtests.records.collector import Collector
from realm_loadtests.records.records import Record
from realm_loadtests.report.progress import Progress, progress_line, progress_view
from realm_loadtests.users.live import rows, state
from realm_mocks.server import MockServer, Schedule


def a_state() -> dict[str, Any]:
    collector = Collector(None)
    collector.start()
    for number in range(100):
        times = [20_000 + number * 1000, 25_000 + number * 1000]
        collector.add(Record("completed", 0, times[-1], token_us=times, tokens=2))
    collector.add(Record("failed", 0, 5, error="http_503"))
    collector.open = 7
    return state(collector, 1) | {"elapsed_s": 5.0}


def test_a_terminal_shows_percentiles_and_failures_so_far() -> None:
    text = "\n".join(progress_view(a_state(), 10))
    for words in ("############............  5/10 s", "7 streams open", "100 done", "40.0 tokens/s"):
        assert words in text
    assert "TTFT p50 69.1 ms p99 118.0 ms   ITL p50 5.00 ms p99 5.00 ms" in text
    assert "1 failed: http_503 1" in text


def test_a_log_has_the_same_in_a_line() -> None:
    line = progress_line(a_state() | {"open": None, "users": 4}, 10)
    assert line.startswith("5/10 s  4 users  100 done  1 failed  TTFT p50 69.1 ms")


def test_before_the_first_answer_there_are_dashes() -> None:
    collector = Collector(None)
    seen = {name: None if value != value else value for name, value in state(collector, 3).items()}
    assert "TTFT p50 - p99 -" in "\n".join(progress_view(seen | {"elapsed_s": 0.0}, 10))


def test_a_terminal_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress(10) as progress:
        progress.show(a_state())
        progress.show(a_state())
    drawn = capsys.readouterr().err
    assert drawn.count("\x1b[4A") == 2  # the second over the first, and nothing over the second
    assert drawn.endswith("\x1b[4A\r\x1b[J")


def test_the_web_ui_has_our_percentiles(start_load: Callable[..., subprocess.Popen[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with MockServer(Schedule(tokens=8, itl=0.01)) as server:
        process = start_load(server.url, "--users", "2", "--duration", "30s", "--ui", str(port))
        assert process.stderr is not None
        found: dict[str, Any] = {"count": 0}
        while not found["count"]:
            assert process.poll() is None, process.stderr.read()
            found = streaming(f"http://127.0.0.1:{port}/stats/requests") or found
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as page:
            assert '"extended_tabs": [{"key": "realm", "title": "Streaming"}]' in page.read().decode()
        process.kill()
        while streaming(f"http://127.0.0.1:{port}/stats/requests"):
            pass  # nobody is left who wanted the page: it ends with its run
    assert found["name"] == "Time to first token"
    assert 0 < found["p50"] <= found["p99"] <= found["max"]


def streaming(url: str) -> dict[str, Any] | None:
    """The row of TTFT; None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            row: dict[str, Any] = json.load(answer)["extended_stats"][0]["data"][0]
            return row
    except OSError:
        return None


def test_rows_without_values_are_empty() -> None:
    assert {row["p99"] for row in rows(Collector(None))} == {None}
    assert math.isnan(state(Collector(None), 0)["ttft_p50_us"])
