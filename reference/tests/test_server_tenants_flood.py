"""Tenants that ask, leave and run into limits all at once: afterwards the books agree and nothing is left."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from realm_reference.server.access.tenancy import open_tenancy
from realm_reference.tenants import Caller, Job, keyfile
from realm_reference.tenants.admission import Admission
from realm_reference.tenants.gate import Limit, Refused
from realm_reference.tenants.keys import generate

CHAT = "/v1/chat/completions"
TENANTS = ("alice", "bobby", "carol")
QUOTA = 10**6
LIMITS = f"[defaults]\nconcurrency = 6\ntokens_per_day = {QUOTA}\n[tenants.carol]\nrequests_per_minute = 10\n"
StartServer = Callable[..., Awaitable[Any]]


async def one(client: aiohttp.ClientSession, server: Any, draw: random.Random) -> tuple[str, int]:
    """A request of some kind: how it ended for the client, and the tokens that it was told."""
    kind = draw.choice(["whole", "streamed", "left", "left", "bad"])
    body = server.body("hello " * draw.randrange(1, 20), max_tokens=draw.randrange(1, 40))
    if kind == "bad":
        body["temperature"] = 7
    if kind in ("streamed", "left"):
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    async with client.post(CHAT, json=body) as response:
        if response.status != 200:
            return str(response.status), 0
        if kind == "left":
            for _ in range(draw.randrange(3)):
                await response.content.readline()
            response.close()
            return "left", 0
        if kind == "streamed":
            text = await response.text()
            return "finished", int(text.rpartition('"total_tokens":')[2].partition("}")[0])
        return "finished", int((await response.json())["usage"]["total_tokens"])


async def test_after_a_flood_the_books_agree(start_server: StartServer, tmp_path: Path) -> None:
    keys = {}
    for tenant in TENANTS:
        keys[tenant], kept = generate(tenant, "", "")
        keyfile.change(tmp_path / "keys.json", lambda known, kept=kept: (*known, kept), create=True)  # type: ignore[misc]
    (tmp_path / "tenants.toml").write_text(LIMITS)
    ledger = tmp_path / "realm.db"
    ends: dict[str, Counter[str]] = {tenant: Counter() for tenant in TENANTS}
    told: Counter[str] = Counter()

    async def user(server: Any, tenant: str, seed: int) -> None:
        draw = random.Random(seed)
        async with aiohttp.ClientSession(
            server.url, headers={"Authorization": f"Bearer {keys[tenant]}"}
        ) as client:
            for _ in range(8):
                end, tokens = await one(client, server, draw)
                ends[tenant][end] += 1
                told[tenant] += tokens

    with open_tenancy(tmp_path / "keys.json", tmp_path / "tenants.toml", ledger) as tenancy:
        server = await start_server(tenancy=tenancy, max_running=3, max_waiting=4)
        async with asyncio.timeout(120):
            await asyncio.gather(*(user(server, TENANTS[n % 3], n) for n in range(24)))
            while server.service.orchestrator.running or server.service.orchestrator.waiting:
                await asyncio.sleep(0.01)
        async with aiohttp.ClientSession(server.url) as client:
            page = await (await client.get("/metrics")).text()
        rows = in_ledger(ledger)
        nothing_is_held(tenancy.admission, "alice", sum(row[2] for row in rows if row[0] == "alice"))

    assert in_ledger(ledger) == rows
    # All kinds of ends happened, and what clients saw is what is written.
    assert {"finished", "left", "400", "429"} <= set(sum(ends.values(), Counter()))
    finished = Counter(tenant for tenant, status, _ in rows if status == "finished")
    for tenant in TENANTS:
        # A client may leave when all has been made already: then its request is finished, unseen.
        seen, left = ends[tenant]["finished"], ends[tenant]["left"]
        assert seen <= finished[tenant] <= seen + left
        assert len([row for row in rows if row[0] == tenant]) == seen + left
        assert sum(tokens for owner, _, tokens in rows if owner == tenant) >= told[tenant]
        counted = counters(page, tenant)
        assert counted["realm_usage_requests_total"] == seen + left
        tokens = counted["realm_usage_input_tokens_total"] + counted["realm_usage_output_tokens_total"]
        assert tokens == sum(tokens for owner, _, tokens in rows if owner == tenant)


def in_ledger(path: Path) -> list[tuple[str, str, int]]:
    """Tenant, status and tokens of each row."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT tenant, status, prompt_tokens + completion_tokens FROM requests ORDER BY id"
        return connection.execute(query).fetchall()


def nothing_is_held(admission: Admission, tenant: str, used: int) -> None:
    """All of the tenant's concurrency is free, and all of its day's tokens that it did not use."""
    rest = Job("a", "r", "chat", "tiny", QUOTA - used - 5, 0)
    for job in [rest, *[replace(rest, prompt_tokens=1)] * 5]:
        admission.admit(Caller(tenant), job)
    with pytest.raises(Refused) as caught:
        admission.admit(Caller(tenant), replace(rest, prompt_tokens=1))
    assert caught.value.limit is Limit.CONCURRENCY


def counters(page: str, tenant: str) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.labels == {"tenant": tenant}
    }
