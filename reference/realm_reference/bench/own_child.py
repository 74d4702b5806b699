"""Our runner as one side of `realm bench peers`: see `sides` and `peer_child`, which does the same tasks.

python -m realm_reference.bench.own_child MODEL WAY PRECISION THREADS
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np
from numpy.typing import NDArray

from realm_reference.bench.peer_child import POSITIONS, SEQUENCES
from realm_reference.model.compute import choose_compute
from realm_reference.model.model import load_model
from realm_reference.model.packed_weights import PackedWeights
from realm_reference.model.runner import PAGE, Chunk, Runner

_PAGES = -(-POSITIONS // PAGE)  # of a sequence


class Own:
    """A runner with room for `SEQUENCES` sequences."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._filled = 0
        runner.reserve(SEQUENCES * _PAGES)

    def prefill(self, tokens: int) -> float:
        """Seconds for a prompt of so many tokens in an empty sequence, with logits of the last."""
        begun = time.perf_counter()
        self._runner.step([self._chunk(0, 0, tokens, 1)])
        seconds = time.perf_counter() - begun
        self._filled = 0
        return seconds

    def decode(self, rows: int, steps: int, context: int) -> float:
        """Seconds for `steps` steps of one token each in `rows` sequences of `context` tokens."""
        if self._filled != context:
            for row in range(SEQUENCES):
                self._runner.step([self._chunk(row, 0, context, 0)])
            self._filled = context
        begun = time.perf_counter()
        for step in range(steps):
            self._runner.step([self._chunk(row, context + step, 1, 1) for row in range(rows)])
        return time.perf_counter() - begun

    def _chunk(self, row: int, position: int, tokens: int, rows: int) -> Chunk:
        ids: NDArray[np.int32] = (np.arange(position, position + tokens, dtype=np.int32) + row * 31) % 500
        pages = np.arange(row * _PAGES, (row + 1) * _PAGES, dtype=np.int32)
        return Chunk(ids % self._runner.vocab_size, position, pages, rows)


def main() -> None:
    """Load, say so, and do tasks until stdin ends."""
    path, way, precision, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    model = load_model(path, choose_compute("numpy" if way == "numpy" else "jit", precision, int(threads)))
    own = Own(model.runner())
    own.decode(1, 1, 1)
    matrices = model.weights.nbytes if isinstance(model.weights, PackedWeights) else None
    print(json.dumps({"ready": str(model.compute), "bytes": matrices}), file=answers)
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps({"seconds": getattr(own, task.pop("do"))(**task)}), file=answers)


if __name__ == "__main__":
    main()
