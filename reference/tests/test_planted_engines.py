"""Defects planted in the reference's engine: the wire chapters catch each, and accuse no healthy one."""

from __future__ import annotations

import asyncio
import runpy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import Runtime
from realm_harness.case import load_cases
from realm_harness.conform import run_cases
from realm_harness.discover import discover
from realm_harness.results import CaseResult
from realm_harness.score import CAUGHT
from realm_reference.engine import Engine
from realm_reference.model.model import Model
from realm_reference.model.runner import PAGE
from realm_reference.orchestration import Orchestrator
from realm_reference.server.access.auth import Authenticator
from realm_reference.server.lifecycle import RunningServer
from realm_reference.server.service import Service
from realm_reference.server.settings import ServerSettings
from realm_reference.server.telemetry.metrics import Metrics
from realm_reference.server.wire.sockets import bind
from realm_reference.tenants.keys import generate

PLANTED = runpy.run_path(str(Path(__file__).with_name("planted_engines.py")))
ENGINES, PageReader = PLANTED["ENGINES"], PLANTED["PageReader"]
CHAPTERS = ("CHAT-BATCH-*", "CHAT-PREFIX-*", "CHAT-DRAFT-*")


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return Runtime()


@asynccontextmanager
async def serving(model: Model, runtime: Runtime) -> AsyncIterator[tuple[str, str, str]]:
    """A server's URL, and the keys of two tenants. Its KV cache holds the model's context and no more."""
    (key, kept), (other, kept_too) = (generate(tenant, "", "") for tenant in ("alice", "bobby"))
    settings = ServerSettings(http_port=0, drain_seconds=5.0, draft_tokens=4, max_running=32)
    engine = Engine(PageReader(model.config, model.vocab_size), pages=model.context_length // PAGE)
    guests = Orchestrator(model, engine, runtime, runtime.compile(guest_bytes("v2")), max_running=32)
    auth = Authenticator((kept, kept_too))
    service = Service(settings, model, engine, guests, auth, Metrics())
    running = RunningServer(service, bind(settings.host, settings.http_port))
    await running.start()
    try:
        yield running.url, key, other
    finally:
        await running.stop()


async def judged(model: Model, runtime: Runtime, *globs: str) -> list[CaseResult]:
    def judge() -> list[CaseResult]:
        target = discover(url, api_key=key, timeout=20)
        target.other_key = other
        return run_cases(load_cases(globs), target).results

    async with serving(model, runtime) as (url, key, other):
        return await asyncio.to_thread(judge)


def with_context(model: Model, context: int) -> Model:
    """The model's tokens, and room for so many of them."""
    return replace(model, config=replace(model.config, context_length=context), context_length=context)


@pytest.mark.timeout(120)
async def test_the_healthy_engine_is_accused_of_nothing(tiny_model: Model, runtime: Runtime) -> None:
    results = await judged(with_context(tiny_model, PLANTED["CONTEXT"]), runtime, *CHAPTERS)
    assert [f"{r.case.id}: {r.message}" for r in results if r.verdict in CAUGHT] == []
    assert sum(r.verdict == "ok" for r in results) >= len(results) - 4, (
        "it is no speaker: words may be missed"
    )


@pytest.mark.parametrize("planted", ENGINES, ids=[planted.id for planted in ENGINES])
@pytest.mark.timeout(60)
async def test_a_planted_defect_is_caught(
    tiny_model: Model, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, planted: Any
) -> None:
    planted.plant(monkeypatch)
    (result,) = await judged(with_context(tiny_model, planted.context), runtime, planted.claim)
    assert result.verdict in CAUGHT, f"{planted.claim} says {result.verdict}: {result.message}"
