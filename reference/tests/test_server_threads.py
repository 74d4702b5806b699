"""Counting prompts off the event loop: a tenant with many waits for itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from realm_reference.orchestration.grammar import GrammarCompiler
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


async def test_who_takes_too_long_is_left_alone_and_keeps_its_turn() -> None:
    threads, gate = TenantThreads(at_once=1), threading.Event()
    with pytest.raises(TimeoutError):
        await threads.run_within(0.05, "slow", gate.wait, 30)
    next_turn = asyncio.create_task(threads.run("slow", lambda: "next"))
    assert await threads.run("light", lambda: "done") == "done"
    assert not next_turn.done()
    gate.set()
    assert await next_turn == "next"


async def test_a_schema_that_takes_too_long_is_refused_by_name(
    start_server: Callable[..., Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, gate = await start_server(prepare_seconds=0.05), threading.Event()
    compiled = GrammarCompiler.compile

    def slow(*args: Any) -> Any:
        gate.wait(30)
        return compiled(*args)

    monkeypatch.setattr(GrammarCompiler, "compile", slow)
    body = server.body(response_format={"type": "json_object"})
    try:
        async with (
            aiohttp.ClientSession(server.url) as client,
            client.post("/v1/chat/completions", json=body) as response,
        ):
            assert response.status == 422
            error = (await response.json())["error"]
    finally:
        gate.set()
    assert (error["param"], error["code"]) == ("response_format", "too_complex")
