"""Mutated guests in a process of their own: each is rejected or contained, and the process lives on.

What was found worth keeping lies in `fuzzing/corpus`, with what becomes of it in `outcomes.toml`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

FUZZING = Path(__file__).resolve().parent / "fuzzing"
CORPUS = FUZZING / "corpus"
OUTCOMES = tomllib.loads((CORPUS / "outcomes.toml").read_text("utf-8"))["outcomes"]
MUTANTS = 400
SECONDS = 240
"""A batch takes a few; a mutant that hangs the process takes all of them."""

CONTAINED = ("finished", "rejected", "no text", "error ", "fault ", "does not start: ")


def outcomes(*arguments: str | Path) -> dict[str, str]:
    """Name -> outcome of a batch. Fails with the mutant that ended the process, if one did."""
    command = [sys.executable, str(FUZZING / "worker.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(FUZZING)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment
        )
    except subprocess.TimeoutExpired as expired:
        started = (expired.stdout or b"").decode().strip().splitlines()
        raise AssertionError(f"hangs: {started[-1] if started else 'nothing was run'}") from None
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1] if lines else 'nothing'} ended the process:\n{done.stderr}"
    return dict(line.split(" ", 1) for line in lines if not line.startswith("run "))


@pytest.mark.parametrize("first", [0, MUTANTS])
def test_mutants_are_rejected_or_contained(first: int) -> None:
    found = outcomes(str(first), str(first + MUTANTS))
    assert len(found) == MUTANTS
    assert [outcome for outcome in found.values() if not outcome.startswith(CONTAINED)] == []
    kinds = Counter(outcome.split()[0] for outcome in found.values())
    assert min(kinds["rejected"], kinds["finished"], kinds["error"] + kinds["fault"]) > MUTANTS // 50


def test_the_corpus_is_replayed() -> None:
    files = sorted(CORPUS.glob("*.wasm"))
    assert {file.name for file in files} == OUTCOMES.keys()
    found = {Path(name).name: outcome for name, outcome in outcomes(*files).items()}
    assert found == OUTCOMES


def test_the_corpus_stays_small() -> None:
    assert sum(file.stat().st_size for file in CORPUS.iterdir()) < 100_000


def test_a_process_that_ends_is_seen(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"run .*missing\.wasm ended the process"):
        outcomes(tmp_path / "missing.wasm")
