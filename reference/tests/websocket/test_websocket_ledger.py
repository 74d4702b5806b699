"""What calls over the WebSocket cost is written down as for HTTP: once each, before their end is told."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from realm_reference.pipelines import parse_pipeline
from realm_reference.tenants.ledger import Ledger

Rows = list[tuple[str, str, int, str, str | None]]
PIPELINE = """
name: two
steps:
  - {name: one, params: {max_tokens: 3, temperature: 0}}
  - {name: other, params: {max_tokens: 4, temperature: 0}}
"""


@pytest.fixture
def path(server: Any, tmp_path: Path) -> Iterator[Path]:
    """The file of a ledger that the server writes to."""
    path = tmp_path / "ledger.sqlite"
    server.service.admission.ledger = ledger = Ledger(path)
    yield path
    ledger.close()


def rows(path: Path) -> Rows:
    """Tenant, endpoint, completion tokens, status and finish of each row, oldest first."""
    with sqlite3.connect(path) as connection:
        columns = "tenant, endpoint, completion_tokens, status, finish"
        found: Rows = connection.execute(f"SELECT {columns} FROM requests ORDER BY started").fetchall()
    connection.close()
    return found


async def test_a_call_is_a_row_before_its_end_is_told(client: Any, path: Path) -> None:
    reply = await client.call("generate", prompt="hello", max_tokens=5, temperature=0)
    assert reply["data"]["tokens_generated"] == 5
    assert rows(path) == [("default", "websocket", 5, "finished", "length")]
    await client.error("generate", prompt="hello", max_tokens=0)
    assert len(rows(path)) == 1, "what was not let in is no request"


async def test_each_step_of_a_pipeline_is_a_row(client: Any, server: Any, path: Path) -> None:
    server.service.pipelines = {"two": parse_pipeline(PIPELINE, "p.yaml")}
    await client.call("pipeline", pipeline="two", input="hello")
    assert [row[1:4] for row in rows(path)] == [("pipeline", 3, "finished"), ("pipeline", 4, "finished")]


@pytest.mark.usefixtures("slow_model")
@pytest.mark.parametrize("how", ["cancel", "leave"])
async def test_what_was_made_counts_also_when_nobody_waits(
    client: Any, server: Any, path: Path, settled: Callable[[Any], Awaitable[int]], how: str
) -> None:
    await client.send("long", "generate", prompt="hello", max_tokens=400, stream=True, temperature=1, seed=1)
    for _ in range(3):
        await client.next()
    if how == "cancel":
        await client.send("stop", "cancel", id="long")
        ended = await client.until_end("long", "stop")
        told = ended["long"][-1]["data"]["tokens_generated"]
    else:
        await client.raw.close()
    await settled(server)
    async with asyncio.timeout(5):
        while not rows(path):
            await asyncio.sleep(0.01)
    [(_, endpoint, tokens, status, finish)] = rows(path)
    assert (endpoint, status, finish) == ("websocket", "cancelled", None)
    assert 3 <= tokens < 100
    if how == "cancel":
        assert tokens == told
