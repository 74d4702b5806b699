"""llama.cpp as one side of `realm bench peers`: the same tasks, through llama-cpp-python's low-level calls.

This file is run as a script by a Python of the peer's, which has llama-cpp-python and nothing of ours: tasks
come as JSON lines on stdin, seconds go back on stdout. See `sides`.

    peer_child.py MODEL THREADS [requantised]
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
import tempfile
import time
from typing import Any

SEQUENCES = 16
POSITIONS = 320
"""Of a sequence; those of all share llama.cpp's context."""
_Q4_0 = 2  # LLAMA_FTYPE_MOSTLY_Q4_0


class Llama:
    """A model in llama.cpp, with room for `SEQUENCES` sequences."""

    def __init__(self, path: str, threads: int) -> None:
        self._api: Any = importlib.import_module("llama_cpp")
        api = self._api
        self._quiet = api.llama_log_callback(lambda *_: None)  # must live as long as it may be called
        api.llama_log_set(self._quiet, ctypes.c_void_p(0))
        api.llama_backend_init()
        self._model = api.llama_model_load_from_file(path.encode(), api.llama_model_default_params())
        if not self._model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        params = api.llama_context_default_params()
        params.n_ctx, params.n_seq_max = SEQUENCES * POSITIONS, SEQUENCES
        params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = threads
        self._context = api.llama_init_from_model(self._model, params)
        self._batch = api.llama_batch_init(512, 0, 1)
        self._filled = 0

    def prefill(self, tokens: int) -> float:
        """Seconds for a prompt of so many tokens in an empty sequence, with logits of the last."""
        self._cut(0, 0)
        begun = time.perf_counter()
        self._step([(0, position, position == tokens - 1) for position in range(tokens)])
        seconds = time.perf_counter() - begun
        self._filled = 0
        return seconds

    def decode(self, rows: int, steps: int, context: int) -> float:
        """Seconds for `steps` steps of one token each in `rows` sequences of `context` tokens."""
        if self._filled != context:
            for row in range(SEQUENCES):
                self._cut(row, 0)
                self._step([(row, position, False) for position in range(context)])
            self._filled = context
        begun = time.perf_counter()
        for step in range(steps):
            self._step([(row, context + step, True) for row in range(rows)])
        seconds = time.perf_counter() - begun
        for row in range(rows):
            self._cut(row, context)
        return seconds

    def _cut(self, row: int, begin: int) -> None:
        self._api.llama_memory_seq_rm(self._api.llama_get_memory(self._context), row, begin, -1)

    def _step(self, tokens: list[tuple[int, int, bool]]) -> None:
        """Tokens as (sequence, position, whether logits are wanted)."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, (row, position, wanted) in enumerate(tokens):
            batch.token[i] = 1000 + (row * 31 + position) % 500
            batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = position, 1, row
            batch.logits[i] = wanted
        if self._api.llama_decode(self._context, batch):
            raise SystemExit("llama.cpp could not decode")
        for i, (_, _, wanted) in enumerate(tokens):
            if wanted:
                self._api.llama_get_logits_ith(self._context, i)


def requantised(path: str, threads: int) -> str:
    """The model as Q4_0, in a temporary file: the format that llama.cpp's CPU kernels are fastest with."""
    api: Any = importlib.import_module("llama_cpp")
    params = api.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.allow_requantize = _Q4_0, threads, True
    handle, target = tempfile.mkstemp(suffix=".gguf")
    os.close(handle)
    if api.llama_model_quantize(path.encode(), target.encode(), ctypes.byref(params)):
        raise SystemExit(f"llama.cpp cannot requantise {path}")
    return target


def main() -> None:
    """Load, say so, and do tasks until stdin ends."""
    path, threads = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the library prints is no answer
    again = len(sys.argv) > 3
    path = requantised(path, threads) if again else path
    llama = Llama(path, threads)
    if again:
        os.unlink(path)
    llama.decode(1, 1, 1)
    version = importlib.import_module("llama_cpp").__version__
    print(json.dumps({"ready": f"llama-cpp-python {version}"}), file=answers)
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps({"seconds": getattr(llama, task.pop("do"))(**task)}), file=answers)


if __name__ == "__main__":
    main()
