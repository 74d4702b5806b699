"""What the processor that code is compiled for can do. NUMBA_CPU_FEATURES may say less than is there."""

from __future__ import annotations

from typing import Final

from llvmlite.binding import get_host_cpu_features
from numba.core import config


def _features() -> frozenset[str]:
    wished: str | None = getattr(config, "CPU_FEATURES", None)
    if wished is not None:
        return frozenset(name[1:] for name in wished.split(",") if name.startswith("+"))
    return frozenset(name for name, there in get_host_cpu_features().items() if there)


FEATURES: Final = _features()
WIDE: Final = "avx512f" in FEATURES
"""A vector of 16 floats is one register, and there are 32 of them."""
FUSED: Final = "fma" in FEATURES or "neon" in FEATURES
"""Multiply and add is one instruction; without it each lane is a call, right but hopeless."""
VNNI: Final = "avx512vnni" in FEATURES
"""Products of bytes are added up four at a time, sixteen times over."""
X86: Final = "sse2" in FEATURES
