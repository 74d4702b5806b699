"""Mutated guests on the reference, in a process of its own: each is contained, nobody beside it notices."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
FUZZING = HERE.parents[1] / "wasm" / "tests" / "fuzzing"
MUTANTS = 400
SECONDS = 240
"""A batch takes a few; a mutant that hangs the process takes all of them."""


@pytest.mark.parametrize("first", [50_000, 50_000 + MUTANTS])
def test_mutants_are_contained(tiny_gguf: Path, first: int) -> None:
    command = [
        sys.executable,
        str(HERE / "mutants_worker.py"),
        str(tiny_gguf),
        str(first),
        str(first + MUTANTS),
    ]
    environment = {**os.environ, "PYTHONPATH": str(FUZZING)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment
        )
    except subprocess.TimeoutExpired as expired:
        raise AssertionError(f"hangs after {(expired.stdout or b'')[-40:]!r}") from None
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]} ended the process:\n{done.stderr}"
    found = [line.split(" ", 1)[1] for line in lines if not line.startswith("run ")]
    assert len(found) == MUTANTS
    kinds = Counter(outcome.split()[0] for outcome in found)
    assert kinds.keys() <= {"finished", "rejected", "error", "fault"}
    assert min(kinds["rejected"], kinds["finished"], kinds["error"] + kinds["fault"]) > MUTANTS // 50
