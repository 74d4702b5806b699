"""Counting prompts off the event loop: a tenant with many waits for itself."""

from __future__ import annotations

import asyncio
import threading

import pytest
from realm_reference.server.access.threads import TenantThreads


async def test_a_tenants_work_leaves_threads_to_others() -> None:
    threads, gate = TenantThreads(at_once=2), threading.Event()
    running: list[int] = []

    def work(number: int) -> int:
        running.append(number)
        gate.wait(30)
        return number

    flood = [asyncio.create_task(threads.run("flood", work, number)) for number in range(100)]
    try:
        async with asyncio.timeout(30):
            while len(running) < 2:
                await asyncio.sleep(0.001)
            assert await threads.run("light", lambda: "done") == "done"
        assert len(running) == 2
    finally:
        gate.set()
    assert await asyncio.gather(*flood) == list(range(100))


async def test_errors_and_cancellation_give_the_turn_back() -> None:
    threads = TenantThreads(at_once=1)
    with pytest.raises(ZeroDivisionError):
        await threads.run("light", lambda: 1 // 0)
    gate = threading.Event()
    waiting = asyncio.create_task(threads.run("light", gate.wait, 30))
    await asyncio.sleep(0.01)
    waiting.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await threads.run("light", lambda: 1) == 1
