"""The servers of `realm bench peers`: ours, with guests and all, and llama.cpp's own with as many slots."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realm_reference.bench.fairness import SERVE, ready_url
from realm_reference.bench.sides import Side, resident_mib
from realm_reference.bench.streams import tokens_per_second

if TYPE_CHECKING:
    from realm_reference.bench.peers import Settings

POSITIONS = 512
"""Of a slot of llama.cpp's server."""


async def measure(settings: Settings, model: Path) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Tokens a second by side and round; and what else there is to say of each server."""
    from realm_reference.bench.peers import LLAMA, OWN, STREAMS

    draw = random.Random(settings.seed)
    rates: dict[str, list[float]] = {name: [] for name in (*OWN, LLAMA)}
    urls: dict[str, str] = {}
    said: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        pids = {}
        for name in OWN:
            begun = time.perf_counter()
            urls[name], pids[name] = await stack.enter_async_context(_own(settings, model, name))
            said[f"server: {name}"] = {"start_s": time.perf_counter() - begun}
        script = Path(__file__).with_name("peer_server.py")
        arguments = [str(model), str(settings.threads), str(STREAMS), str(POSITIONS)]
        peer = stack.enter_context(
            Side("llama.cpp's server", [str(settings.python), str(script), *arguments])
        )
        urls[LLAMA], pids[LLAMA] = peer.told["url"], peer.pid
        said[f"server: {LLAMA}"] = {"start_s": peer.start_s}
        for turn in range(-1, settings.http_rounds):
            for name, url in urls.items():
                count, tokens = (STREAMS, settings.http_tokens) if turn >= 0 else (2, 4)
                rate = await tokens_per_second(url, count, tokens, draw)
                if turn >= 0:
                    rates[name].append(rate)
        for name, pid in pids.items():
            said[f"server: {name}"]["resident_mib"] = resident_mib(pid)
    return rates, said


@asynccontextmanager
async def _own(settings: Settings, model: Path, precision: str) -> AsyncIterator[tuple[str, int]]:
    from realm_reference.bench.peers import STREAMS

    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.json"
        flags = ["--http", "--http-port", "0", "--model", str(model), "--log-level", "error"]
        flags += ["--compute", "jit", "--precision", precision, "--threads", str(settings.threads)]
        flags += ["--max-tenants", str(STREAMS), "--ready-file", str(ready), "--drain-timeout", "0"]
        process = subprocess.Popen([*SERVE, *flags])
        try:
            yield await ready_url(ready, process), process.pid
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, 30)
            process.kill()
            process.wait()
