"""llama.cpp's own server, for `realm bench peers`: run as a script by a Python that has xllamacpp, which
holds it as a library. Says its URL on stdout and ends with stdin.

    peer_server.py MODEL THREADS SLOTS POSITIONS
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any


def main() -> None:
    """Serve on a free loopback port until stdin ends."""
    path, threads, slots, positions = sys.argv[1], *map(int, sys.argv[2:])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    api: Any = importlib.import_module("xllamacpp")
    params = api.CommonParams()
    params.model.path = path
    params.n_parallel, params.n_ctx = slots, slots * positions
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.hostnames, params.port, params.verbosity = ["127.0.0.1"], 0, -1
    server = api.Server(params)
    print(json.dumps({"ready": "llama.cpp's server", "url": server.listening_address}), file=answers)
    sys.stdin.read()


if __name__ == "__main__":
    main()
