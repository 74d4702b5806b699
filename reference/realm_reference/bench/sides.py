"""The sides of a comparison: child processes that do the same tasks in turns.

Each is a process of its own, so that its start, its memory and its threads are its own; one works at a time
while the others sleep. A side says {"ready": what it is} once it has computed its first token, and answers
{"do": task, ...} with {"seconds": ...}, a JSON line each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any


class SideFailed(Exception):
    """A side did not start or ended; one line."""


class Side:
    """A running side: `start_s` is from its start to its first token, `told` what it said of itself."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        begun = time.perf_counter()
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True
        )
        try:
            self.told = self._answer()
        except BaseException:
            self.close()
            raise
        self.start_s = time.perf_counter() - begun

    def seconds(self, task: str, **arguments: int) -> float:
        """What a task took."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": task, **arguments}) + "\n")
        self._process.stdin.flush()
        return float(self._answer()["seconds"])

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def resident_mib(self) -> float | None:
        """Its resident memory; None where there is no /proc."""
        return resident_mib(self.pid)

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._process.wait()
        self._said.seek(0)
        said = self._said.read().strip().splitlines()
        raise SideFailed(f"{self.name} ended: {said[-1] if said else 'it said nothing'}")


def own_command(model: str, way: str, precision: str, threads: int) -> list[str]:
    """Our runner."""
    return [sys.executable, "-m", "realm_reference.bench.own_child", model, way, precision, str(threads)]


def peer_command(python: Path, model: Path, threads: int, *more: str) -> list[str]:
    """llama.cpp through the Python that has it."""
    script = Path(__file__).with_name("peer_child.py")
    return [str(python), str(script), str(model), str(threads), *more]


def resident_mib(pid: int) -> float | None:
    """A process's resident memory in MiB."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(lines[0].split()[1]) / 1024 if lines else None
