"""Tokens a second through a whole server: many streams at once, each of a prompt that no other has."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any

import aiohttp

from realm_reference.bench.fairness import WORDS, BenchError

_PROMPT_WORDS = 48
_SECONDS = 600


async def tokens_per_second(url: str, count: int, max_tokens: int, draw: random.Random) -> float:
    """`count` greedy completions of up to `max_tokens` tokens at once; from the first byte sent to the last
    received, prompts included.
    """
    async with aiohttp.ClientSession(
        url, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=_SECONDS)
    ) as session:
        async with session.get("/v1/models") as response:
            model = (await response.json())["data"][0]["id"]
        prompts = [" ".join(draw.choices(WORDS, k=_PROMPT_WORDS)) for _ in range(count)]
        begun = time.perf_counter()
        made = await asyncio.gather(*(_stream(session, model, prompt, max_tokens) for prompt in prompts))
        return sum(made) / (time.perf_counter() - begun)


async def _stream(session: aiohttp.ClientSession, model: str, prompt: str, max_tokens: int) -> int:
    body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    usage: dict[str, Any] | None = None
    async with session.post("/v1/completions", json=body) as response:
        if response.status != 200:
            raise BenchError(f"the server answered {response.status}: {(await response.text())[:200]}")
        async for line in response.content:
            if line.startswith(b"data: {"):
                usage = json.loads(line[6:]).get("usage") or usage
    if usage is None:
        raise BenchError("an answer did not say how many tokens it has")
    return int(usage["completion_tokens"])
