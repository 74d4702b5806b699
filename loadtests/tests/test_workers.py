"""Several processes, here and as on other machines: one result, whatever becomes of a worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from realm_loadtests.commands.load import load
from realm_mocks.server import MockServer, Schedule

COMMAND = [sys.executable, "-c", "from realm_loadtests.commands.load import load; load()"]
LONG = Schedule(ttft=0.01, itl=0.1, tokens=25)


def test_workers_streams_come_to_their_ends(run_load: Callable[..., Any]) -> None:
    """Open when the duration is over, and for longer than locust waits for its workers by itself."""
    with MockServer(LONG) as server:
        run = run_load(server.url, "--users", "2", "--duration", "1s", "--processes", "2")
    assert run.code == 0, run.stderr
    assert run.result["figures"]["completed"] == 2
    assert run.result["generator"]["lost_workers"] == 0


def test_a_killed_worker_is_named_and_what_it_saw_is_kept(
    start_load: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    with MockServer(Schedule(ttft=0.01, itl=0.005, tokens=8)) as server:
        arguments = ("--users", "2", "--duration", "6s", "--processes", "2", "--slo", "ttft_p99<60s")
        running = start_load(server.url, *arguments)
        _wait_for_both_workers(tmp_path)
        os.kill(_grandchildren(running.pid)[-1], signal.SIGKILL)
        stdout, stderr = running.communicate(timeout=60)
    result = json.loads((tmp_path / "load.json").read_text())
    records = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    assert running.returncode == 3, stderr
    assert result["generator"]["lost_workers"] == 1
    assert "was lost" in result["note"]
    assert result["note"] in stdout
    assert {record["worker"] for record in records} == {0, 1}
    assert result["figures"]["requests"] == len(records)


def test_workers_of_other_machines_share_an_open_loop(
    start_load: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """They are told all by the master, send its moments once, and keep a copy of what they send back."""
    port = str(_free_port())
    schedule = Schedule(ttft=0.01, itl=0.002, tokens=4)
    with MockServer(schedule) as server:
        arguments = (
            "--arrivals",
            "constant:20",
            "--duration",
            "2s",
            "--workers",
            "2",
            "--bind",
            f"127.0.0.1:{port}",
        )
        running = start_load(server.url, *arguments)
        workers = [
            subprocess.Popen(
                [*COMMAND, "worker", f"127.0.0.1:{port}", "--out", str(tmp_path / f"copy{number}")],
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in (0, 1)
        ]
        try:
            stdout, stderr = running.communicate(timeout=60)
            said = [worker.communicate(timeout=60)[1] for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
    records = _lines(tmp_path)
    assert running.returncode in (0, 3), stderr  # a busy machine may be the bottleneck
    assert [worker.returncode for worker in workers] == [0, 0], said
    assert len(records) == 40, stdout
    assert sorted(records) == sorted(line for number in (0, 1) for line in _lines(tmp_path / f"copy{number}"))
    assert {json.loads(line)["worker"] for line in records} == {0, 1}
    result = json.loads((tmp_path / "load.json").read_text())
    assert result["figures"]["completed"] == 40
    assert result["generator"]["lost_workers"] == 0


def test_a_worker_without_a_master_says_so(tmp_path: Path) -> None:
    said = CliRunner().invoke(
        load, ["worker", f"127.0.0.1:{_free_port()}", "--wait", "1", "--out", str(tmp_path)]
    )
    assert said.exit_code == 2
    assert "nobody listens at 127.0.0.1" in said.output
    wrong = CliRunner().invoke(load, ["worker", "a:b:c", "--out", str(tmp_path)])
    assert "'a:b:c' is no address" in wrong.output


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _lines(folder: Path) -> list[str]:
    return (folder / "requests.jsonl").read_text().splitlines()


def _wait_for_both_workers(folder: Path) -> None:
    limit = time.monotonic() + 40
    while not all(f'"worker":{number},' in _text(folder) for number in (0, 1)):
        assert time.monotonic() < limit
        time.sleep(0.05)


def _text(folder: Path) -> str:
    path = folder / "requests.jsonl"
    return path.read_text() if path.exists() else ""


def _grandchildren(pid: int) -> list[int]:
    """The workers: children of the locust process that `realm load` started."""
    master = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
    return [int(child) for child in Path(f"/proc/{master}/task/{master}/children").read_text().split()]
