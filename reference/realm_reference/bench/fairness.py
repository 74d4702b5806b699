"""What one tenant's flood does to another's time to first token, on a server of `realm serve`.

A light tenant asks one thing at a time and pauses twice as long as it waits for a first token alone, so that
it wants less than its half of the engine; a flooding one keeps many requests running and more
waiting. Rounds without and with the flood take turns, so that what the machine does besides falls on both.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np

from realm_reference.tenants import keyfile
from realm_reference.tenants.keys import generate

SERVE: Final = [sys.executable, "-c", "from realm_reference.commands import serve; serve()"]
_START_SECONDS: Final = 600  # a first start compiles
WORDS: Final = (
    "river",
    "stone",
    "window",
    "orange",
    "music",
    "winter",
    "paper",
    "garden",
    "silver",
    "letter",
)


class BenchError(Exception):
    """The server did not start or did not answer; one line."""


@dataclass(frozen=True)
class Settings:
    """`flood` requests at a time; in each of `rounds` rounds `requests` of the light tenant, without and with
    it.
    """

    model: str
    flood: int = 16
    rounds: int = 5
    requests: int = 20
    prompt_words: int = 40
    seed: int = 7


@dataclass(frozen=True)
class Server:
    """Where it is, and the keys of its two tenants."""

    url: str
    model: str
    light: str
    flood: str

    def session(self, key: str) -> aiohttp.ClientSession:
        """A client with a key and as many connections as it wants."""
        return aiohttp.ClientSession(
            self.url,
            headers={"Authorization": f"Bearer {key}"},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=_START_SECONDS),
        )


async def run(settings: Settings, flags: Sequence[str] = ()) -> dict[str, Any]:
    """Times to first token in milliseconds: `alone`, `flooded`, and the flooding tenant's `own`; `flags` are
    the server's.
    """
    draw = random.Random(settings.seed)
    times: dict[str, list[list[float]]] = {"alone": [], "flooded": [], "own": []}
    async with _serving(settings.model, flags) as server, server.session(server.light) as light:
        alone = await _light(light, server, settings, draw, 0.0)  # warms up, too
        pause = 2 * statistics.median(alone) / 1e3
        for _ in range(settings.rounds):
            times["alone"].append(await _light(light, server, settings, draw, pause))
            async with _flood(server, settings, draw) as own:
                times["flooded"].append(await _light(light, server, settings, draw, pause))
            times["own"].append(own)
    return {"settings": vars(settings), "ttft_ms": times, "summary": summary(times)}


def summary(times: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Percentiles over all rounds and of each, and the ratios of flooded to alone."""
    figures: dict[str, Any] = {
        who: {f"p{q}": _percentile([t for one in rounds for t in one], q) for q in (50, 90, 99)}
        for who, rounds in times.items()
    }
    for q in (50, 99):
        figures[f"ratio_p{q}"] = figures["flooded"][f"p{q}"] / figures["alone"][f"p{q}"]
    figures["ratio_p99_of_rounds"] = [
        _percentile(flooded, 99) / _percentile(alone, 99)
        for alone, flooded in zip(times["alone"], times["flooded"], strict=True)
    ]
    return figures


def table(result: dict[str, Any]) -> list[str]:
    """For people."""
    figures, settings = result["summary"], result["settings"]
    lines = [
        f"{settings['model']}: a light tenant beside a flood of {settings['flood']} requests at a time,"
        f" {settings['rounds']} rounds of {settings['requests']} requests",
        "time to first token, ms        p50       p90       p99",
    ]
    names = {"alone": "light, alone", "flooded": "light, flooded", "own": "the flooding tenant's"}
    for who, name in names.items():
        row = "".join(f"{figures[who][f'p{q}']:10.1f}" for q in (50, 90, 99))
        lines.append(f"{name:24}{row}")
    rounds = ", ".join(f"{ratio:.2f}" for ratio in figures["ratio_p99_of_rounds"])
    lines.append(
        f"flooded / alone: p50 {figures['ratio_p50']:.2f}, p99 {figures['ratio_p99']:.2f} (rounds: {rounds})"
    )
    return lines


async def _light(
    session: aiohttp.ClientSession, server: Server, settings: Settings, draw: random.Random, pause: float
) -> list[float]:
    times = []
    for _ in range(settings.requests):
        await asyncio.sleep(draw.uniform(0.5, 1.5) * pause)
        times.append(await _first_token_ms(session, server, settings, draw, max_tokens=4))
    return times


@asynccontextmanager
async def _flood(server: Server, settings: Settings, draw: random.Random) -> AsyncIterator[list[float]]:
    """Keeps the flood up; yields its own times, from its first answer on."""
    times: list[float] = []
    async with server.session(server.flood) as session:

        async def user() -> None:
            while True:
                times.append(await _first_token_ms(session, server, settings, draw, max_tokens=32))

        users = [asyncio.create_task(user()) for _ in range(settings.flood)]
        try:
            while not times and not any(user.done() for user in users):
                await asyncio.sleep(0.01)
            yield times
            if failed := [user for user in users if user.done()]:
                failed[0].result()
        finally:
            for one in users:
                one.cancel()
            await asyncio.gather(*users, return_exceptions=True)


async def _first_token_ms(
    session: aiohttp.ClientSession,
    server: Server,
    settings: Settings,
    draw: random.Random,
    *,
    max_tokens: int,
) -> float:
    words = " ".join(draw.choices(WORDS, k=settings.prompt_words))
    messages = [{"role": "user", "content": words}]
    body = {"model": server.model, "messages": messages, "max_tokens": max_tokens, "stream": True}
    begun = time.perf_counter_ns()
    first: int | None = None
    async with session.post("/v1/chat/completions", json=body) as response:
        if response.status != 200:
            raise BenchError(f"the server answered {response.status}: {(await response.text())[:200]}")
        async for line in response.content:
            if first is None and line.startswith(b"data: {"):
                first = time.perf_counter_ns()
    if first is None:
        raise BenchError("an answer had no token")
    return (first - begun) / 1e6


@asynccontextmanager
async def _serving(model: str, flags: Sequence[str]) -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = {}
        for tenant in ("light", "flood"):
            keys[tenant], kept = generate(tenant, "", "")
            keyfile.change(folder / "keys.json", lambda all_keys, kept=kept: (*all_keys, kept), create=True)  # type: ignore[misc]
        ready = folder / "ready.json"
        process = subprocess.Popen(
            [
                *SERVE,
                *("--http", "--http-port", "0", "--model", model, "--log-level", "error"),
                *("--auth", "--api-keys", str(folder / "keys.json"), "--ledger", str(folder / "realm.db")),
                *("--ready-file", str(ready), "--drain-timeout", "0", *flags),
            ]
        )
        try:
            url = await ready_url(ready, process)
            async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {keys['light']}"}) as client:
                listing = await (await client.get(f"{url}/v1/models")).json()
            yield Server(url, listing["data"][0]["id"], keys["light"], keys["flood"])
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()


async def ready_url(ready: Path, process: subprocess.Popen[bytes]) -> str:
    """The URL of a server, from its ready file; raises BenchError if it ends or takes too long."""
    end = time.monotonic() + _START_SECONDS
    while not ready.exists():
        if process.poll() is not None:
            raise BenchError("realm serve did not start")
        if time.monotonic() > end:
            raise BenchError(f"realm serve was not ready in {_START_SECONDS} seconds")
        await asyncio.sleep(0.02)
    return str(json.loads(ready.read_text("utf-8"))["url"])


def _percentile(values: Sequence[float], q: float) -> float:
    return float(np.percentile(values, q, method="higher"))
