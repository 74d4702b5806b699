"""The client that one writes in an afternoon: aiohttp, a task a user, JSON parsed as it comes.

    python ci/load_peers_aiohttp.py URL STREAMS SECONDS

Prints TTFTs and gaps in milliseconds as JSON, for `load_peers_table.py`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import aiohttp

BODY = {"model": "emitter-1", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}


async def user(session: aiohttp.ClientSession, url: str, end: float, stamps: list[list[float]]) -> None:
    """Ask until the end; a list for each answer, of the sending and of each token."""
    while time.perf_counter() < end:
        own = [time.perf_counter()]
        async with session.post(f"{url}/v1/chat/completions", json=BODY) as answer:
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    choices = json.loads(line[6:])["choices"]
                    if choices and choices[0]["delta"].get("content"):
                        own.append(time.perf_counter())
        stamps.append(own)


async def main(url: str, streams: int, seconds: float) -> None:
    """Run the users beside each other."""
    stamps: list[list[float]] = []
    connector = aiohttp.TCPConnector(limit=streams)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as users:
        end = time.perf_counter() + seconds
        for _ in range(streams):
            users.create_task(user(session, url, end, stamps))
    ttft = [1e3 * (own[1] - own[0]) for own in stamps]
    gaps = [1e3 * (own[at + 1] - own[at]) for own in stamps for at in range(1, len(own) - 1)]
    json.dump({"ttft": ttft, "itl": gaps}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
