"""The reference held to its own page: by the harness's cases, and by what the page says in tables."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from realm_harness.case import load_cases
from realm_harness.conform import run_cases
from realm_harness.discover import discover
from realm_harness.results import CaseResult
from realm_reference.pipelines import Sampling, parse_pipeline
from realm_reference.server.settings import WebSocketSettings
from realm_reference.server.websocket.params import GenerateParams, generate_params
from realm_reference.tenants.keys import ApiKey, digest_of

KEY = "realm_alice_0123456789"
PAGE = (Path(__file__).parents[3] / "docs" / "websocket.md").read_text("utf-8")


@pytest.mark.parametrize("guarded", [True, False])
async def test_every_case_holds(start_server: Any, guarded: bool) -> None:
    keys = (ApiKey("alice", digest_of(KEY), "alice"),) if guarded else None
    server = await start_server(keys=keys, websocket=WebSocketSettings(auth_timeout=0.5))

    def run() -> list[CaseResult]:
        target = discover(server.url, api_key=KEY if guarded else None, timeout=20)
        return run_cases(load_cases(["CHAT-WS*"]), target).results

    results = await asyncio.to_thread(run)
    assert len(results) == 52
    wrong = [
        f"{r.case.id}: {r.verdict}: {r.message}" for r in results if r.verdict not in ("ok", "informational")
    ]
    assert not wrong
    unjudged = {r.case.id for r in results if r.verdict == "informational"}
    of_keys = {f"CHAT-WSAUTH-00{number}" for number in (3, 4, 5, 6, 7, 8)}
    # The tiny model may be too quick for the cases that want to come in the middle.
    in_the_middle = {"CHAT-WSCALL-009", "CHAT-WSCALL-011", "CHAT-WSCALL-024", "CHAT-WSANSWER-007"}
    assert unjudged - in_the_middle == (set() if guarded else of_keys)


def test_the_page_names_every_parameter_and_its_default() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `generate`")).split("|")[2]
    named = dict(re.findall(r"`(\w+)`(?: = ([\w.]+))?", row))
    plain = GenerateParams(prompt="x")
    fields = {*Sampling.__dataclass_fields__, "prompt", "model", "stream", "chat", "logprobs"}
    assert set(named) == fields
    for name, default in named.items():
        if default:
            real = getattr(plain, name, None) if hasattr(plain, name) else getattr(plain.sampling, name)
            assert default in (str(real).lower(), f"{real:g}"), name
    assert generate_params({"prompt": "x"}) == plain


def test_the_pages_pipeline_is_one() -> None:
    start = PAGE.index("    name: explain")
    block = PAGE[start : PAGE.index("\n\n", start)]
    pipeline = parse_pipeline(textwrap.dedent(block), "page.yaml")
    assert [(step.name, step.output_field, step.optional) for step in pipeline.steps] == [
        ("summarise", "summarise", False), ("explain", "answer", True),
    ]  # fmt: skip


def test_the_page_has_the_servers_bounds() -> None:
    settings = WebSocketSettings()
    assert f"within {settings.auth_timeout:g} seconds" in PAGE
    assert f"{settings.max_calls} on a connection" in PAGE
    assert f"more than {settings.max_message_bytes >> 20} MiB" in PAGE
    assert f"every {settings.heartbeat:g} seconds" in PAGE
    assert f"for {settings.idle_timeout / 60:g} minutes" in PAGE
