"""What a report tells of a run in which the network or the server broke."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from realm_mocks.faults import Fault, FaultProxy
from realm_mocks.server import MockServer, Schedule

CUT = {"connection_reset", "connection_closed"}


def test_each_fault_of_the_network_has_its_name_and_number(run_load: Callable[..., Any]) -> None:
    faults = [Fault("reset", 900, 0.3), Fault("truncate", 900, 0.3), Fault("stall", 300, 0.4)]
    with (
        MockServer(Schedule(ttft=0.01, itl=0.005, tokens=12)) as server,
        FaultProxy(server.url, faults, seed=1) as proxy,
    ):
        run = run_load(
            proxy.url, "--users", "8", "--duration", "3s", "--model", server.model, "--metrics", ""
        )
        counts = dict(proxy.counts)
    figures = run.result["figures"]
    assert run.code == 1
    assert set(figures["errors"]) <= CUT
    # A connection that is cut fails one request, and the user makes another; the look beforehand had some.
    cut = counts["reset"] + counts["truncate"]
    assert 0 < figures["failed"] <= cut
    assert figures["failed"] >= cut - 2
    assert figures["completed"] > 0
    assert figures["itl_ms"]["max"] >= 290


def test_a_server_killed_and_started_again_is_seen_as_both(
    start_load: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    first = _mock_process(0)
    try:
        url = _url(first)
        load = start_load(url, "--users", "4", "--duration", "6s", "--timeout", "20")
        _wait_for(tmp_path, "completed", 8)
        first.kill()
        first.wait()
        _wait_for(tmp_path, "failed", 4)
        second = _mock_process(int(url.rpartition(":")[2]))
        try:
            _url(second)
            load.communicate(timeout=60)
        finally:
            second.kill()
            second.communicate()
    finally:
        first.kill()
        first.communicate()
    result = json.loads((tmp_path / "load.json").read_text())
    records = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    outcomes = [record["outcome"] for record in sorted(records, key=lambda record: record["at_us"])]
    assert set(result["figures"]["errors"]) <= CUT | {"connect_refused", "connection_error"}
    assert "connect_refused" in result["figures"]["errors"]
    before, after = outcomes.index("failed"), len(outcomes) - outcomes[::-1].index("failed")
    assert outcomes[:before].count("completed") >= 4
    assert "completed" in outcomes[after:]
    assert load.returncode == 1


def _mock_process(port: int) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "realm_mocks.server",
        "--itl-ms",
        "5",
        "--tokens",
        "8",
        "--port",
        str(port),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _wait_for(folder: Path, outcome: str, count: int) -> None:
    limit = time.monotonic() + 40
    path = folder / "requests.jsonl"
    while not path.exists() or path.read_text().count(f'"outcome":"{outcome}"') < count:
        assert time.monotonic() < limit
        time.sleep(0.02)
