"""How fast this machine reads memory: the bound of a decode step, which reads every weight."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

_BYTES: Final = 256 << 20  # far beyond any cache
_REPEAT: Final = 5


def read_bandwidth(threads: int) -> float:
    """Bytes a second that `threads` threads read together: the best of a few passes."""
    parts = np.split(np.ones(_BYTES // 8 // threads * threads, np.int64), threads)
    with ThreadPoolExecutor(threads) as pool:
        return max(_pass(pool, parts) for _ in range(_REPEAT))


def _pass(pool: ThreadPoolExecutor, parts: list[np.ndarray]) -> float:
    begun = time.perf_counter()
    list(pool.map(np.max, parts))
    return sum(part.nbytes for part in parts) / (time.perf_counter() - begun)
