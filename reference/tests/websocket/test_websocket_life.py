"""How connections end: idle, silent, slow, gone, or with the server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from realm_reference.orchestration import generation
from realm_reference.server.settings import WebSocketSettings
from realm_reference.server.websocket.calls import RunningCall

Settled = Callable[[Any], Awaitable[int]]


async def test_a_ping_is_answered_with_its_bytes(client: Any) -> None:
    # aiohttp's client keeps pongs to itself unless it is told not to.
    client.raw._autoping = False
    await client.raw.ping(b"are you there?")
    message = await client.raw.receive(timeout=5)
    assert (message.type, bytes(message.data)) == (aiohttp.WSMsgType.PONG, b"are you there?")


async def test_a_silent_client_is_pinged_and_stays_if_it_answers(start_server: Any, connect: Any) -> None:
    server = await start_server(websocket=WebSocketSettings(heartbeat=0.1))
    client = await connect(server)
    reading = asyncio.ensure_future(client.next())
    await asyncio.sleep(0.5)
    await client.send("still", "health")
    assert (await reading)["id"] == "still"


async def test_a_client_that_answers_no_ping_is_cut_off(
    start_server: Any, connect: Any, settled: Settled
) -> None:
    server = await start_server(websocket=WebSocketSettings(heartbeat=0.1))
    client = await connect(server, autoping=False)
    kinds = [(await client.raw.receive(timeout=5)).type for _ in range(2)]
    assert kinds[0] is aiohttp.WSMsgType.PING
    assert kinds[1] in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSE)
    await settled(server)


@pytest.mark.usefixtures("slow_model")
async def test_an_idle_connection_is_closed_but_not_one_that_waits(start_server: Any, connect: Any) -> None:
    server = await start_server(websocket=WebSocketSettings(idle_timeout=0.2))
    client = await connect(server)
    await client.send("long", "generate", prompt="hello", max_tokens=30)
    assert (await client.next())["status"] == "complete", "it was silent for longer than that"
    assert await client.closed() == 1001


@pytest.mark.usefixtures("slow_model")
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_client_that_leaves_stops_its_work(
    server: Any, connect: Any, settled: Settled, how: str
) -> None:
    client = await connect(server)
    for id in ("one", "two"):
        await client.send(id, "generate", prompt="hello", max_tokens=500, stream=True)
    await client.next()
    if how == "close":
        await client.raw.close()
    else:
        client.raw._writer.transport.abort()
    at_close = server.service.engine.counters.steps
    assert await settled(server) - at_close <= 4, "two calls, two tokens each"
    assert server.service.engine.open_sessions == 0


async def test_a_reader_that_takes_nothing_is_given_up_alone(
    start_server: Any, connect: Any, settled: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "BUFFERED_TOKENS", 4)
    server = await start_server(write_timeout=0.2)
    original = RunningCall.piece

    async def padded(self: RunningCall, text: str, logprob: float | None = None) -> None:
        await original(self, text * (300_000 if self.id == "slow" else 1), logprob)

    monkeypatch.setattr(RunningCall, "piece", padded)
    slow, quick = await connect(server), await connect(server)
    # Small buffers in the kernel, and nobody reads.
    slow.raw._conn.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.raw._conn.transport.pause_reading()
    await slow.send("slow", "generate", prompt="hello", max_tokens=600, stream=True, temperature=2, seed=1)
    await quick.send("quick", "generate", prompt="hello", max_tokens=20, stream=True)
    assert (await quick.until_end("quick"))["quick"][-1]["status"] == "complete"
    await settled(server)
    assert server.service.engine.counters.rows < 400
    assert server.service.engine.open_sessions == 0
    assert (await quick.call("health"))["status"] == "complete"


@pytest.mark.usefixtures("slow_model")
async def test_a_server_that_goes_lets_calls_end_and_says_so(server: Any, connect: Any) -> None:
    busy, idle = await connect(server), await connect(server)
    await busy.send("last", "generate", prompt="hello", max_tokens=20, stream=True, temperature=0)
    await busy.next()
    stopping = asyncio.ensure_future(server.running.stop())
    while not server.service.draining:
        await asyncio.sleep(0.002)
    assert (await idle.error("generate", prompt="x"))["code"] == "SERVICE_UNAVAILABLE"
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{server.url}/ws")
    assert refused.value.status == 503
    messages = (await busy.until_end("last"))["last"]
    assert (messages[-1]["status"], messages[-1]["data"]["tokens_generated"]) == ("complete", 20)
    assert [await busy.closed(), await idle.closed()] == [1001, 1001]
    await stopping


@pytest.mark.usefixtures("slow_model")
async def test_in_its_grace_period_it_sends_away_who_waits_for_nothing(
    start_server: Any, connect: Any
) -> None:
    server = await start_server(leave_seconds=20)
    busy, idle = await connect(server), await connect(server)
    for id, tokens in (("short", 5), ("long", 20)):
        await busy.send(id, "generate", prompt="hello", max_tokens=tokens)
    while server.service.orchestrator.running < 2:
        await asyncio.sleep(0.002)
    hurry = asyncio.Event()
    stopping = asyncio.ensure_future(server.running.stop(hurry))
    assert await idle.closed() == 1001
    ended = await busy.until_end("short", "long")
    assert [ended[id][0]["data"]["tokens_generated"] for id in ("short", "long")] == [5, 20]
    assert await busy.closed() == 1001
    assert not server.service.draining, "the grace period goes on"
    hurry.set()
    await stopping
    server.service.settings = replace(server.service.settings, leave_seconds=0)  # for the fixture's own stop


@pytest.mark.usefixtures("slow_model")
async def test_what_does_not_end_in_time_is_told_so(start_server: Any, connect: Any) -> None:
    server = await start_server(drain_seconds=0.2)
    client = await connect(server)
    await client.send("long", "generate", prompt="hello", max_tokens=500)
    while not server.service.orchestrator.running:
        await asyncio.sleep(0.002)
    await server.running.stop()
    reply = await client.next()
    assert (reply["id"], reply["error"]["code"]) == ("long", "SERVICE_UNAVAILABLE")
    assert await client.closed() == 1001


async def test_a_binary_message_is_none_of_ours(client: Any) -> None:
    await client.raw.send_bytes(b"{}")
    assert await client.closed() == 1003


async def test_a_message_that_is_too_long_ends_the_connection(start_server: Any, connect: Any) -> None:
    server = await start_server(websocket=WebSocketSettings(max_message_bytes=2000))
    client = await connect(server)
    await client.raw.send_str('{"id": "a", "function": "health"' + " " * 1000 + "}")
    assert (await client.next())["id"] == "a"
    await client.raw.send_str("x" * 2001)
    assert await client.closed() == 1009


async def test_connections_leave_nothing_behind(server: Any, connect: Any) -> None:
    tasks = len(asyncio.all_tasks())
    for _ in range(10):
        client = await connect(server)
        await client.send("a", "generate", prompt="hello", max_tokens=3)
        await client.raw.close()
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) > tasks or server.service.engine.open_sessions:
            await asyncio.sleep(0.01)
