"""Keys, limits, guests and the ledger of a running server, over the wire."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from realm_abi.guests import guest_bytes
from realm_reference.server.access.limits import duration
from realm_reference.server.access.tenancy import Tenancy, TenancyError, open_tenancy
from realm_reference.server.telemetry import logs
from realm_reference.tenants import keyfile
from realm_reference.tenants.keys import generate, load_keys

CHAT = "/v1/chat/completions"
StartServer = Callable[..., Awaitable[Any]]


class Home:
    """The files of a server: keys of tenants, limits, ledger."""

    def __init__(self, folder: Path) -> None:
        self.keys, self.tenants, self.ledger = (
            folder / "keys.json",
            folder / "tenants.toml",
            folder / "realm.db",
        )
        self.tenants.write_text("")
        self.key_of = {tenant: self.new_key(tenant) for tenant in ("alice", "bobby")}

    def new_key(self, tenant: str) -> str:
        key, kept = generate(tenant, "", "")
        keyfile.change(self.keys, lambda keys: (*keys, kept), create=True)
        return key

    def client(self, server: Any, tenant: str) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {self.key_of[tenant]}"})

    def rows(self) -> list[sqlite3.Row]:
        with closing(sqlite3.connect(self.ledger)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute("SELECT * FROM requests ORDER BY started").fetchall()

    async def first_row(self) -> sqlite3.Row:
        """The first row, once it is there: nobody waits for that of a request that failed or was left."""
        async with asyncio.timeout(20):
            while not (rows := self.rows()):
                await asyncio.sleep(0.01)
        return rows[0]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def tenancy(home: Home) -> Iterator[Callable[[str], Tenancy]]:
    """Opens the home's files with the given limits."""
    opened: list[Any] = []

    def open_with(limits: str = "") -> Tenancy:
        home.tenants.write_text(limits)
        opened.append(open_tenancy(home.keys, home.tenants, home.ledger))
        return opened[-1].__enter__()  # type: ignore[no-any-return]

    yield open_with
    for one in opened:
        one.__exit__(None, None, None)


async def error_of(response: aiohttp.ClientResponse, status: int) -> dict[str, Any]:
    assert response.status == status, await response.text()
    error: dict[str, Any] = (await response.json())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def test_a_request_is_in_the_ledger_when_its_end_is_seen(
    start_server: StartServer, home: Home, tenancy: Callable[..., Tenancy]
) -> None:
    server = await start_server(tenancy=tenancy())
    async with home.client(server, "alice") as client:
        answer = await (await client.post(CHAT, json=server.body(), headers={"x-request-id": "r-1"})).json()
        [row] = home.rows()
        assert (row["id"], row["request_id"], row["tenant"]) == (answer["id"], "r-1", "alice")
        assert home.key_of["alice"].startswith(row["key_id"])
        assert (row["status"], row["finish"]) == ("finished", answer["choices"][0]["finish_reason"])
        usage = answer["usage"]
        assert (row["prompt_tokens"], row["completion_tokens"]) == (
            usage["prompt_tokens"],
            usage["completion_tokens"],
        )
        assert 0 <= row["queue_seconds"] <= row["ttft_seconds"] <= row["total_seconds"]
        async with client.post(CHAT, json=server.body(stream=True, n=2)) as response:
            async for line in response.content:
                if line == b"data: [DONE]\n":
                    assert [row["status"] for row in home.rows()] == ["finished", "finished"]
    assert len(home.rows()) == 2


async def test_an_end_that_cannot_be_written_down_is_not_told(
    start_server: StartServer, home: Home, tenancy: Callable[..., Tenancy]
) -> None:
    server = await start_server(tenancy=tenancy())
    with closing(sqlite3.connect(home.ledger)) as other:
        other.execute("ALTER TABLE requests RENAME TO gone")
        other.commit()
        async with home.client(server, "alice") as client:
            error = await error_of(await client.post(CHAT, json=server.body()), 500)
            assert "ledger" in error["message"]
            async with client.post(CHAT, json=server.body(stream=True)) as response:
                text = await response.text()
            assert "[DONE]" not in text
            assert "ledger" in json.loads(text.rstrip().rpartition("data: ")[2])["error"]["message"]
            ready = await client.get("/ready")
            assert ready.status == 503
            assert "ledger" in (await ready.json())["reason"]
        other.execute("ALTER TABLE gone RENAME TO requests")
        other.commit()


async def test_a_tenant_sees_its_own_usage_alone(
    start_server: StartServer, home: Home, tenancy: Callable[..., Tenancy]
) -> None:
    server = await start_server(tenancy=tenancy("[tenants.alice]\nconcurrency = 5\n"))
    async with home.client(server, "alice") as client:
        answer = await (await client.post(CHAT, json=server.body())).json()
        response = await client.get("/v1/tenants/alice/usage")
        assert response.status == 200
        seen = await response.json()
        assert (seen["tenant"], seen["requests"]) == ("alice", 1)
        assert seen["total_tokens"] == answer["usage"]["total_tokens"]
        assert {name: value for name, value in seen["limits"].items() if value} == {"concurrency": 5}
        for other in ("bobby", "nobody", "alice%00"):
            error = await error_of(await client.get(f"/v1/tenants/{other}/usage"), 403)
            assert error["code"] == "wrong_tenant"
    async with home.client(server, "bobby") as client:
        assert (await (await client.get("/v1/tenants/bobby/usage")).json())["requests"] == 0
        metrics = await (await client.get("/metrics")).text()
        assert 'realm_requests_errors_total{error_type="authorization_error"} 3.0' in metrics
    async with aiohttp.ClientSession(server.url) as stranger:
        await error_of(await stranger.get("/v1/tenants/alice/usage"), 401)


async def test_who_leaves_pays_for_what_was_made(
    start_server: StartServer, home: Home, tenancy: Callable[..., Tenancy]
) -> None:
    server = await start_server(tenancy=tenancy())
    async with home.client(server, "bobby") as client:
        async with client.post(CHAT, json=server.body(stream=True, max_tokens=600)) as response:
            await response.content.readline()
            response.close()
        row = await home.first_row()
    assert (row["status"], row["finish"], row["tenant"]) == ("cancelled", None, "bobby")
    assert row["prompt_tokens"] > 0


@pytest.mark.usefixtures("slow_model")
async def test_who_leaves_the_queue_pays_nothing(
    start_server: StartServer, home: Home, tenancy: Callable[..., Tenancy]
) -> None:
    server = await start_server(tenancy=tenancy(), max_running=1)
    async with (
        home.client(server, "bobby") as client,
        client.post(CHAT, json=server.body(stream=True, max_tokens=600)) as running,
    ):
        await running.content.readline()
        waiting = asyncio.ensure_future(client.post(CHAT, json=server.body()))
        async with asyncio.timeout(20):
            while not server.service.orchestrator.waiting:
                await asyncio.sleep(0.01)
        waiting.cancel()
        row = await home.first_row()
        running.close()
    assert (row["status"], row["queue_seconds"]) == ("cancelled", None)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (0, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_of_ours_is_written_down_as_one(
    start_server: StartServer,
    home: Home,
    tenancy: Callable[..., Tenancy],
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect of the server's")

    monkeypatch.setattr("realm_reference.server.answers.turn.Turn.take", broken)
    server = await start_server(tenancy=tenancy())
    async with home.client(server, "bobby") as client:
        await error_of(await client.post(CHAT, json=server.body(stream=stream)), 500)
    row = await home.first_row()
    assert (row["status"], row["finish"]) == ("failed", "internal_error")


async def test_what_was_not_let_in_has_no_row(
    start_server: StartServer, home: Home, tenancy: Callable[..., Tenancy]
) -> None:
    server = await start_server(tenancy=tenancy("[defaults]\nrequests_per_minute = 1\n"))
    async with home.client(server, "alice") as client:
        await error_of(await client.post(CHAT, json=server.body(temperature=9)), 400)
        assert (await client.post(CHAT, json=server.body())).status == 200
        await error_of(await client.post(CHAT, json=server.body()), 429)
    assert len(home.rows()) == 1


async def test_requests_a_minute(
    start_server: StartServer, home: Home, tenancy: Callable[..., Tenancy]
) -> None:
    server = await start_server(
        tenancy=tenancy(
            "[defaults]\nrequests_per_minute = 6\nrequests_burst = 2\n[tenants.bobby]\nconcurrency = 1\n"
        )
    )
    async with home.client(server, "alice") as client:
        first = await client.post(CHAT, json=server.body())
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert 0 < seconds(first.headers["x-ratelimit-reset-requests"]) <= 10
        assert "x-ratelimit-limit-tokens" not in first.headers
        async with client.post(CHAT, json=server.body(stream=True)) as streamed:
            assert streamed.headers["x-ratelimit-remaining-requests"] == "0"
            await streamed.read()
        refused = await client.post(CHAT, json=server.body())
        error = await error_of(refused, 429)
        assert (error["type"], error["code"], error["param"]) == ("requests", "rate_limit_exceeded", None)
        assert "requests_per_minute is 6." in error["message"]
        assert 1 <= int(refused.headers["Retry-After"]) <= 10
        assert 1 <= int(refused.headers["Retry-After-Ms"]) <= 1000 * int(refused.headers["Retry-After"])
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    async with home.client(server, "bobby") as client:
        assert (await client.post(CHAT, json=server.body())).status == 200


async def test_tokens_a_minute_and_a_day(
    start_server: StartServer, home: Home, tenancy: Callable[..., Tenancy]
) -> None:
    limits = "[tenants.alice]\ntokens_per_minute = 100\n[tenants.bobby]\ntokens_per_day = 100\n"
    server = await start_server(tenancy=tenancy(limits))
    async with home.client(server, "alice") as client:
        first = await client.post(CHAT, json=server.body(max_tokens=20))
        assert first.headers["x-ratelimit-limit-tokens"] == "100"
        await client.post(CHAT, json=server.body(max_tokens=500))
        refused = await client.post(CHAT, json=server.body(max_tokens=500))
        assert (await error_of(refused, 429))["type"] == "tokens"
        assert int(refused.headers["Retry-After"]) >= 1
    async with home.client(server, "bobby") as client:
        error = await error_of(await client.post(CHAT, json=server.body(max_tokens=100)), 429)
        assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
        assert "tokens_per_day is 100" in error["message"]
        assert (await client.post(CHAT, json=server.body(max_tokens=5))).status == 200


async def test_concurrency_and_context(
    start_server: StartServer, home: Home, tenancy: Callable[..., Tenancy]
) -> None:
    server = await start_server(tenancy=tenancy("[tenants.alice]\nconcurrency = 1\ncontext = 64\n"))
    async with home.client(server, "alice") as client:
        async with client.post(CHAT, json=server.body(stream=True, max_tokens=None)) as running:
            await running.content.readline()
            refused = await client.post(CHAT, json=server.body())
            await error_of(refused, 429)
            assert refused.headers["Retry-After"] == "1"
            text = await running.text()
        assert '"finish_reason":"length"' in text or '"finish_reason":"stop"' in text
        error = await error_of(await client.post(CHAT, json=server.body(max_tokens=64)), 400)
        assert error["code"] == "context_length_exceeded"
        assert "holds 64 tokens" in error["message"]
    async with home.client(server, "bobby") as client:
        assert (await client.post(CHAT, json=server.body(max_tokens=64))).status == 200


async def test_a_tenant_runs_on_its_own_guest(
    start_server: StartServer, home: Home, tenancy: Callable[..., Tenancy], tmp_path: Path
) -> None:
    (tmp_path / "own.wasm").write_bytes(guest_bytes("v1"))
    server = await start_server(tenancy=tenancy('[tenants.alice]\nguest = "own.wasm"\n'))
    async with home.client(server, "alice") as client:
        error = await error_of(await client.post(CHAT, json=server.body(min_p=0.5)), 400)
        assert "v1" in error["message"]
        assert (await client.post(CHAT, json=server.body())).status == 200
    async with home.client(server, "bobby") as client:
        assert (await client.post(CHAT, json=server.body(min_p=0.5))).status == 200


@asynccontextmanager
async def watched(server: Any, files: Tenancy) -> AsyncIterator[None]:
    server.service.on_reload = partial(files.reload, server.service.orchestrator, [])
    task = asyncio.create_task(files.watch(server.service, every_seconds=0.02))
    yield
    task.cancel()


async def until(status: int, client: aiohttp.ClientSession, body: dict[str, Any]) -> None:
    async with asyncio.timeout(20):
        while (await client.post(CHAT, json=body)).status != status:
            await asyncio.sleep(0.02)


async def test_changes_need_no_restart(
    start_server: StartServer, home: Home, tenancy: Callable[..., Tenancy], caplog: pytest.LogCaptureFixture
) -> None:
    files = tenancy()
    server = await start_server(tenancy=files)
    body = server.body(max_tokens=2)
    async with watched(server, files), home.client(server, "alice") as client:
        await until(200, client, body)
        before = load_keys(home.keys)
        keyfile.change(home.keys, lambda keys: tuple(key for key in keys if key.tenant_id != "alice"))
        await until(401, client, body)
        keyfile.change(home.keys, lambda _: before)
        await until(200, client, body)
        home.tenants.write_text("[tenants.alice]\nrequests_per_minute = 1\n")
        await until(429, client, body)
        home.tenants.write_text("[tenants.alice]\nrequests_per_minute = 0\n")
        async with asyncio.timeout(20):
            while "must be a whole number" not in json.dumps([vars(r) for r in caplog.records], default=str):
                await asyncio.sleep(0.02)
        await until(429, client, body)  # what cannot be read changes nothing
        home.tenants.write_text("")
        await until(200, client, body)


def test_what_cannot_be_opened_is_one_line(home: Home, tmp_path: Path) -> None:
    def reason(**changes: Any) -> str:
        paths = {"keys": home.keys, "policies": home.tenants, "ledger": home.ledger, **changes}
        with pytest.raises(TenancyError) as caught, open_tenancy(**paths):
            pass
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "cannot read the key file" in reason(keys=tmp_path / "none.json")
    assert "cannot read the tenants file" in reason(policies=tmp_path / "none.toml")
    assert "as a ledger" in reason(ledger=tmp_path)
    home.tenants.write_text("[defaults]\ntokens_per_day = 5\n")
    assert "--ledger" in reason(ledger=None)


async def test_no_key_prompt_or_output_in_logs_metrics_or_ledger(
    start_server: StartServer, home: Home, tenancy: Callable[..., Tenancy], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = await start_server(tenancy=tenancy("[tenants.alice]\ncontext = 200\n"))
    outputs = []
    async with home.client(server, "alice") as client:
        for changes in (
            {},
            {"stream": True},
            {"temperature": 9},
            {"max_tokens": 400},
            {"model": "xylophone"},
        ):
            body = server.body("xylophone", **{"max_tokens": 30, "user": "xylophone", **changes})
            text = await (await client.post(CHAT, json=body)).text()
            if not changes:
                outputs.append(json.loads(text)["choices"][0]["message"]["content"])
        await client.post(CHAT, data=b'{"xylophone": ')
        await client.get("/v1/models/xylophone")
        metrics = await (await client.get("/metrics")).text()
    async with aiohttp.ClientSession(server.url) as stranger:
        await stranger.post(CHAT, json=server.body(), headers={"Authorization": "Bearer xylophone_key"})
    written = io.StringIO()
    for form in (logs.JsonFormatter(), logs.TextFormatter()):
        written.writelines(form.format(record) + "\n" for record in caplog.records)
    ledger = b"".join(path.read_bytes() for path in home.ledger.parent.glob("realm.db*"))
    everything = written.getvalue() + metrics + ledger.decode("utf-8", "replace")
    assert "alice" in everything
    assert len(outputs[0]) > 8
    secrets = ["xylophone", home.key_of["alice"], home.key_of["alice"][-26:], outputs[0]]
    assert [secret for secret in secrets if secret in everything or json.dumps(secret) in everything] == []


def seconds(text: str) -> float:
    """Back from OpenAI's format."""
    total, number = 0.0, ""
    for part in text.replace("ms", "u"):
        if part.isdigit():
            number += part
        else:
            total += int(number) * {"h": 3600, "m": 60, "s": 1, "u": 0.001}[part]
            number = ""
    return total


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0ms"),
        (0.0004, "1ms"),
        (0.12, "120ms"),
        (0.9999, "1s"),
        (1.2, "2s"),
        (360, "6m0s"),
        (86399.5, "24h0m0s"),
    ],
)
def test_durations_are_openais(value: float, text: str) -> None:
    assert duration(value) == text
    assert seconds(text) >= value
