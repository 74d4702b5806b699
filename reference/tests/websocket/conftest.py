"""A WebSocket client for the tests of the server's protocol: aiohttp's, which is not the one under test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

Json = dict[str, Any]


class Client:
    """A connection; `raw` is aiohttp's."""

    def __init__(self, raw: aiohttp.ClientWebSocketResponse) -> None:
        self.raw = raw

    async def next(self) -> Json:
        """The next message."""
        message: Json = await self.raw.receive_json(timeout=20)
        return message

    async def send(self, id: str, function: str, /, **params: Any) -> None:
        """Send a call."""
        await self.raw.send_json({"id": id, "function": function, "params": params})

    async def until_end(self, *ids: str) -> dict[str, list[Json]]:
        """All messages until each of `ids` has ended; none of another call may come."""
        found: dict[str, list[Json]] = {id: [] for id in ids}
        while any(not got or got[-1]["status"] == "streaming" for got in found.values()):
            message = await self.next()
            found[message["id"]].append(message)
        return found

    async def call(self, function: str, /, **params: Any) -> Json:
        """The one reply to a call that does not stream."""
        await self.send("one", function, **params)
        reply = await self.next()
        assert reply["id"] == "one"
        return reply

    async def error(self, function: str, /, **params: Any) -> Json:
        """The error that a call ends with."""
        reply = await self.call(function, **params)
        assert reply["status"] == "error", reply
        assert set(reply) == {"id", "status", "error"}
        error: Json = reply["error"]
        return error

    async def closed(self) -> int | None:
        """The code with which the server closes, which it has to do now."""
        message = await self.raw.receive(timeout=20)
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), message
        return message.data if message.type is aiohttp.WSMsgType.CLOSE else self.raw.close_code


Connect = Callable[..., Awaitable[Client]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens connections to a server; with `welcome`, its first message has been read and is right."""
    async with AsyncExitStack() as stack:

        async def connect(server: Any, *, welcome: bool = True, **options: Any) -> Client:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            settings = {"max_msg_size": 0, "timeout": aiohttp.ClientWSTimeout(ws_close=1.0), **options}
            raw = await stack.enter_async_context(session.ws_connect(f"{server.url}/ws", **settings))
            client = Client(raw)
            if welcome:
                assert (await client.next())["status"] == "connected"
            return client

        yield connect


@pytest.fixture
async def client(server: Any, connect: Connect) -> Client:
    """A connection to it."""
    return await connect(server)


@pytest.fixture
def settled() -> Callable[[Any], Awaitable[int]]:
    """Waits until no guest runs any more; the engine's steps until then."""

    async def wait(server: Any) -> int:
        async with asyncio.timeout(20):
            while server.service.orchestrator.running or server.service.orchestrator.waiting:
                await asyncio.sleep(0.005)
        return int(server.service.engine.counters.steps)

    return wait
