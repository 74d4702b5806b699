"""The chapter about adapters on the reference: it keeps every clause, and no planted fault escapes it."""

from __future__ import annotations

import asyncio
import runpy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from realm_harness.case import load_cases
from realm_harness.conform import judge
from realm_harness.discover import discover
from realm_harness.score import CAUGHT
from realm_harness.target import Target
from realm_reference.model.adapter_files import load_adapter
from realm_reference.model.model import Model, load_model
from realm_reference.server.access.tenancy import open_tenancy
from realm_reference.tenants import keyfile
from realm_reference.tenants.keys import generate

HERE = Path(__file__)
WRITER = runpy.run_path(str(HERE.with_name("adapter_writer.py")))
PLANTED = runpy.run_path(str(HERE.with_name("planted_adapters.py")))["PLANTED"]
StartServer = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
def roomy(make_gguf: Callable[..., Path]) -> Model:
    """The tiny model with room for the chapter's long prompts."""
    return load_model(make_gguf({"llama.context_length": 4096}))


@asynccontextmanager
async def target(start: StartServer, model: Model, folder: Path) -> AsyncIterator[Target]:
    """A server with two adapters for everybody and one of the second tenant's, and how to talk to it."""
    secrets = []
    for tenant in ("first", "second"):
        secret, kept = generate(tenant, "", "")
        secrets.append(secret)
        keyfile.change(folder / "keys.json", lambda keys, kept=kept: (*keys, kept), create=True)
    (folder / "tenants.toml").write_text('[tenants.second]\nadapters = ["own"]\n')
    with open_tenancy(folder / "keys.json", folder / "tenants.toml", None) as tenancy:
        server = await start(model=model, tenancy=tenancy)
        for seed, name in enumerate(("fr", "de", "own"), 1):
            path = WRITER["write_peft"](folder / name, WRITER["draw"](model.config, seed))
            adapter = load_adapter(name, path, model.config)
            await asyncio.to_thread(server.service.engine.adapters.load, adapter)
        found = await asyncio.to_thread(discover, server.url, api_key=secrets[0], timeout=20.0)
        found.other_key = secrets[1]
        yield found


async def test_the_reference_keeps_every_clause(
    start_server: StartServer, roomy: Model, tmp_path: Path
) -> None:
    cases = load_cases(["CHAT-LORA-*"])
    async with target(start_server, roomy, tmp_path) as found:
        results = [await asyncio.to_thread(judge, case, found) for case in cases]
    assert [(result.case.id, result.message) for result in results if result.verdict != "ok"] == []
    assert len(results) == 14


@pytest.mark.parametrize("defect", PLANTED)
async def test_a_planted_fault_is_found_out(
    defect: str, start_server: StartServer, roomy: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = PLANTED[defect]
    monkeypatch.setattr(planted.owner, planted.name, planted.wrong)
    (case,) = load_cases([planted.case])
    async with target(start_server, roomy, tmp_path) as found:
        result = await asyncio.to_thread(judge, case, found)
    assert result.verdict in CAUGHT, f"{planted.case} says {result.verdict}: {result.message}"
    assert "was refused" not in (result.message or "")
