"""Helpers for runs of `realm prove`: its processes, and stand-ins for the commands that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Prove = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start_prove(tmp_path: Path) -> Iterator[Prove]:
    """Starts `realm prove` with the given arguments, writing to tmp_path/out; killed if left at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "realm_harness", "prove", "--out", str(tmp_path / "out"), *arguments],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.fixture
def mock_process() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A MockServer in a process of its own, which a test may kill: its URL and the process."""
    with subprocess.Popen(
        [sys.executable, "-m", "realm_mocks.server"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process
        process.kill()


@pytest.fixture
def children_of() -> Callable[[int], dict[int, str]]:
    """The running processes below a process, by id, with their command lines."""

    def find(parent: int) -> dict[int, str]:
        listing = subprocess.run(
            ["ps", "-eo", "stat=,pid=,ppid=,args="], capture_output=True, text=True, check=True
        )
        lines = [line.split(None, 3) for line in listing.stdout.splitlines()]
        rows = [rest for state, *rest in lines if not state.startswith("Z")]
        found: dict[int, str] = {}
        wanted = {parent}
        while new := {
            int(pid): rest for pid, ppid, *rest in rows if int(ppid) in wanted and int(pid) not in found
        }:
            found.update({pid: " ".join(rest) for pid, rest in new.items()})
            wanted = set(new)
        return found

    return find


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Waits until a condition holds, for a minute at most."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "it did not happen within a minute"
            time.sleep(0.05)

    return wait
