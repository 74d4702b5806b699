"""Who is let in: the upgrade, the key, its time, and what a connection of one tenant may not do."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from realm_reference.server.settings import WebSocketSettings
from realm_reference.tenants.keys import ApiKey, digest_of

KEY = "realm_alice_0123456789"
ALICE = ApiKey("realm_alice", digest_of(KEY), "alice")


@pytest.fixture
async def guarded(start_server: Any) -> Any:
    """A server that asks for a key, and not for long."""
    return await start_server(keys=(ALICE,), websocket=WebSocketSettings(auth_timeout=0.4))


async def test_without_keys_the_welcome_comes_at_once(server: Any, connect: Any) -> None:
    client = await connect(server, welcome=False)
    welcome = await client.next()
    assert set(welcome) == {"status", "version", "tenant_id"}
    assert (welcome["status"], welcome["tenant_id"]) == ("connected", "default")


async def test_a_good_key_opens(guarded: Any, connect: Any) -> None:
    client = await connect(guarded, welcome=False)
    asked = await client.next()
    assert set(asked) == {"type", "message"}
    assert asked["type"] == "auth_required"
    await client.raw.send_json({"type": "auth", "api_key": KEY})
    assert await client.next() == {"type": "auth_success", "tenant_id": "alice"}
    assert (await client.next())["tenant_id"] == "alice"
    assert (await client.call("generate", prompt="hello", max_tokens=2))["status"] == "complete"
    await asyncio.sleep(0.5)
    assert (await client.call("health"))["status"] == "complete", "that was the time for the key alone"


@pytest.mark.parametrize(
    "first",
    [
        '{"type": "auth", "api_key": "realm_alice_wrong"}',
        '{"type": "auth", "api_key": ""}',
        '{"type": "auth", "api_key": 5}',
        '{"type": "auth"}',
        '{"api_key": "realm_alice_0123456789"}',
        '{"id": "1", "function": "health"}',
        "hello",
        "[]",
    ],
)
async def test_anything_else_is_refused_and_the_connection_closed(
    guarded: Any, connect: Any, first: str
) -> None:
    client = await connect(guarded, welcome=False)
    await client.next()
    await client.raw.send_str(first)
    refused = await client.next()
    assert set(refused) == {"type", "error"}
    assert refused["type"] == "auth_failed"
    assert KEY not in refused["error"]
    assert await client.closed() == 1008


async def test_a_header_does_not_open(guarded: Any, connect: Any) -> None:
    client = await connect(guarded, welcome=False, headers={"Authorization": f"Bearer {KEY}"})
    assert (await client.next())["type"] == "auth_required"


async def test_who_sends_no_key_has_seconds(guarded: Any, connect: Any) -> None:
    client = await connect(guarded, welcome=False)
    await client.next()
    await client.raw.ping()
    refused = await client.next()
    assert refused["type"] == "auth_failed"
    assert "0.4 seconds" in refused["error"]
    assert await client.closed() == 1008


async def test_pings_buy_no_time(guarded: Any, connect: Any) -> None:
    client = await connect(guarded, welcome=False)
    await client.next()

    async def ping() -> None:
        while not client.raw.closed:
            await client.raw.ping()
            await asyncio.sleep(0.05)

    pinging = asyncio.ensure_future(ping())
    async with asyncio.timeout(5):
        assert (await client.next())["type"] == "auth_failed"
    pinging.cancel()


async def test_who_leaves_in_the_handshake_leaves_nothing_behind(guarded: Any, connect: Any) -> None:
    for _ in range(3):
        client = await connect(guarded, welcome=False)
        await client.next()
        await client.raw.close()
    client = await connect(guarded, welcome=False)
    assert (await client.next())["type"] == "auth_required"


async def test_a_binary_frame_is_no_key(guarded: Any, connect: Any) -> None:
    client = await connect(guarded, welcome=False)
    await client.next()
    await client.raw.send_bytes(b"{}")
    assert await client.closed() == 1003


async def test_a_stranger_may_not_send_much(guarded: Any, connect: Any) -> None:
    client = await connect(guarded, welcome=False)
    await client.next()
    await client.raw.send_str("x" * 5000)
    assert await client.closed() == 1009
    client = await connect(guarded, welcome=False)
    await client.next()
    await client.raw.send_json({"type": "auth", "api_key": KEY})
    await client.next(), await client.next()
    await client.raw.send_str('{"id": "a", "function": "health"' + " " * 5000 + "}")
    assert (await client.next())["status"] == "complete"


async def test_a_key_that_is_disabled_opens_no_further_call(guarded: Any, connect: Any) -> None:
    client = await connect(guarded, welcome=False)
    await client.next()
    await client.raw.send_json({"type": "auth", "api_key": KEY})
    await client.next(), await client.next()
    assert (await client.call("health"))["status"] == "complete"
    guarded.service.auth.use([])
    assert (await client.error("generate", prompt="hello"))["code"] == "UNAUTHORIZED"


async def test_a_call_for_another_tenant_is_refused(guarded: Any, connect: Any) -> None:
    client = await connect(guarded, welcome=False)
    await client.next()
    await client.raw.send_json({"type": "auth", "api_key": KEY})
    await client.next(), await client.next()
    for tenant, status in (("alice", "complete"), ("bob", "error"), ("", "error")):
        await client.raw.send_json({"id": "x", "function": "health", "tenant_id": tenant})
        reply = await client.next()
        assert reply["status"] == status
    assert reply["error"]["code"] == "UNAUTHORIZED"
    assert reply["error"]["details"] == {"param": "tenant_id", "code": "wrong_tenant"}


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Upgrade": None}, 426),
        ({"Upgrade": "h2c"}, 426),
        ({"Sec-WebSocket-Version": "12"}, 426),
        ({"Sec-WebSocket-Version": None}, 426),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Connection": "keep-alive"}, 400),
    ],
)
async def test_a_wrong_upgrade_is_an_error_object(server: Any, changes: dict[str, Any], status: int) -> None:
    headers = {name: value for name, value in (UPGRADE | changes).items() if value is not None}
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.get("/ws", headers=headers) as response,
    ):
        assert response.status == status
        assert set((await response.json())["error"]) == {"message", "type", "param", "code"}
        if status == 426:
            assert response.headers["Upgrade"] == "websocket"
        if "Sec-WebSocket-Version" in changes:
            assert response.headers["Sec-WebSocket-Version"] == "13"
