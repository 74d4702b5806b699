"""Many clients at once: idle, slow, half gone. What each costs is bounded, and the others get theirs."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from realm_reference.server.errors import ApiError
from realm_reference.server.wire.sse import EventStream

GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
StartServer = Callable[..., Awaitable[Any]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(server: Any, data: bytes = b"") -> Streams:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(data)
    return reader, writer


def chat(server: Any, **changes: Any) -> bytes:
    body = json.dumps(server.body(**{"stream": True, **changes})).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + body


def open_connections(server: Any) -> int:
    return sum(len(runner.server.connections) for runner in server.running._runners)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.005)


async def test_idle_connections_make_room_the_oldest_first(start_server: StartServer) -> None:
    server = await start_server(max_connections=40)
    idle = [await connect(server, b"" if i % 2 else b"GET / HT") for i in range(200)]
    assert (await server.ask(max_tokens=2))["usage"]["completion_tokens"] == 2
    await until(lambda: open_connections(server) <= 40)
    reader, writer = idle[-1]
    writer.write(GET)
    assert b" 200 " in await reader.readline(), "the youngest are still there"
    async with asyncio.timeout(5):
        for old, _ in idle[:100]:
            assert await old.read() == b"", "the oldest had to go"
    for _, writer in idle:
        writer.close()


@pytest.mark.usefixtures("slow_model")
async def test_busy_connections_do_not_make_room(start_server: StartServer) -> None:
    server = await start_server(max_connections=3)
    alone = (await server.stream(max_tokens=60))[1].count("data: ")
    busy = [await connect(server, chat(server, max_tokens=60)) for _ in range(3)]
    for reader, _ in busy:
        await reader.readuntil(b"\r\n\r\n")
    reader, writer = await connect(server, GET)
    raw = await reader.read()
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    for field in (b"Retry-After: 1", b"x-request-id: req-", b"Connection: close"):
        assert field in head
    assert json.loads(body)["error"]["code"] == "too_many_connections"
    writer.close()
    for reader, writer in busy:
        assert (await reader.readuntil(b"[DONE]")).count(b"data: ") == alone, "and the others go on"
        writer.close()
    await until(lambda: open_connections(server) == 0)
    assert (await server.ask(max_tokens=2))["usage"]["completion_tokens"] == 2


async def test_half_open_connections_end(start_server: StartServer) -> None:
    """The peer has closed its half in the head, in the body, after the request; or was reset."""
    server = await start_server()
    whole = chat(server, max_tokens=600)
    for data in (b"", b"GET /he", whole[:-20], whole):
        reader, writer = await connect(server, data)
        writer.write_eof()
        with suppress(ConnectionError):
            async with asyncio.timeout(5):
                await reader.read()
        writer.close()
        _, writer = await connect(server, data)
        await asyncio.sleep(0.01)
        writer.transport.abort()
    await until(lambda: open_connections(server) == 0)
    await until(lambda: server.service.engine.open_sessions == 0)
    assert (await server.ask(max_tokens=2))["usage"]["completion_tokens"] == 2


def takes_nothing(server: Any, data: bytes) -> socket.socket:
    """A client with little room that sends its request and then never reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect((server.host, server.port))
    client.sendall(data)
    return client


@pytest.mark.usefixtures("slow_model")
async def test_a_reader_that_stops_is_cut_off_and_its_neighbour_sees_nothing_of_it(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = EventStream.send

    async def padded(self: EventStream, data: bytes) -> None:
        await send(self, data + b": " + b"x" * int(self.request.query.get("padding", 0)) + b"\n\n")

    monkeypatch.setattr(EventStream, "send", padded)
    server = await start_server(write_timeout=0.5)
    alone = (await server.stream(max_tokens=100))[1]
    large = chat(server, max_tokens=500, temperature=2, seed=1)
    stuck = takes_nothing(server, large.replace(b" HTTP", b"?padding=300000 HTTP", 1))
    await until(lambda: server.service.orchestrator.running == 1)
    reader, writer = await connect(server, chat(server, max_tokens=100))
    await reader.readuntil(b"\r\n\r\n")
    text = await reader.readuntil(b"[DONE]")
    assert text.count(b"data: ") == alone.count("data: ")
    writer.close()
    await until(lambda: server.service.orchestrator.running == 0)
    assert server.service.engine.open_sessions == 0
    await until(lambda: open_connections(server) == 0)
    stuck.close()


async def test_a_whole_answer_that_is_not_taken_is_cut_off(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ApiError, "body", lambda self: {"error": "x" * 30_000_000})
    server = await start_server(write_timeout=0.3)
    stuck = takes_nothing(server, chat(server, stream=False, top_p=7))
    await until(lambda: open_connections(server) == 1)
    await until(lambda: open_connections(server) == 0)
    assert server.service.engine.open_sessions == 0
    stuck.close()


async def test_a_crowd_of_bad_clients(start_server: StartServer) -> None:
    """Hundreds of connections trickle, babble, stall and vanish; a good client is served all the while."""
    server = await start_server(max_connections=100, head_timeout=0.4, body_timeout=0.4, idle_timeout=0.4)
    whole = chat(server, max_tokens=50)
    manners = (b"", b"GET / HTTP/1.1\r\nX: ", b"\x16\x03\x01" * 9, whole[:-9], whole, b"POST / HTTP/1.1\r\n")

    async def misbehave(number: int) -> None:
        reader, writer = await connect(server, manners[number % len(manners)])
        with suppress(ConnectionError):
            for _ in range(number % 7):
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.02)
            if number % 3:
                async with asyncio.timeout(10):
                    await reader.read()
        writer.transport.abort()

    crowd = asyncio.gather(*(misbehave(number) for number in range(300)))
    answered = 0
    while not crowd.done():
        reader, writer = await connect(server, GET)
        answered += b" 200 " in await reader.readline()
        writer.close()
        await asyncio.sleep(0.01)
    await crowd
    assert answered >= 10
    await until(lambda: server.service.orchestrator.running == server.service.orchestrator.waiting == 0)
    await until(lambda: open_connections(server) == 0)
    assert server.service.engine.open_sessions == 0
    assert (await server.ask(max_tokens=2))["usage"]["completion_tokens"] == 2
