"""`ci/gpu` refuses without a GPU in one line; what it would write is rehearsed on the host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from realm_reference.compute.cuda import cupy_fault

_SCRIPT = Path(__file__).parents[2] / "ci" / "gpu_table.py"


@pytest.mark.skipif(cupy_fault() is None, reason="there is a GPU here")
def test_without_a_gpu_it_says_what_is_missing() -> None:
    done = subprocess.run([sys.executable, _SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"ci/gpu needs a CUDA GPU and CuPy: {cupy_fault()}\n")


def test_a_rehearsal_adds_a_table(tiny_gguf: Path, tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    page.write_text("# On a GPU\n")
    command = [sys.executable, _SCRIPT, "--backend", "numpy", "--rounds", "1", "--model", tiny_gguf, "--out"]
    subprocess.run([*command, page], check=True, capture_output=True)
    lines = page.read_text("utf-8").splitlines()
    assert lines[0] == "# On a GPU"
    assert "the host (a rehearsal), tiny.gguf, float32" in lines[2]
    assert [line.split(" | ")[0] for line in lines[6:]] == ["| prefill of 256", "| decode, 1", "| decode, 16"]
