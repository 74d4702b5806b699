"""The kernels have the same bits on every processor."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

_WORKER = Path(__file__).with_name("kernels_worker.py")
_AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+sse2,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2,+f16c,+lzcnt",
}


def _digest(settings: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, str(_WORKER)],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    return done.stdout


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="not an x86 processor, so it has no AVX"
)
@pytest.mark.timeout(300)
def test_bits_do_not_depend_on_the_width_of_registers() -> None:
    """AVX-512 with its byte products against AVX2; on a machine that has only the latter, both are that."""
    assert _digest({}) == _digest(_AVX2)
