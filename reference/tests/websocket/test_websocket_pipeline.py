"""Pipelines over the WebSocket, on the tiny model: every step a generation of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from realm_reference.pipelines import parse_pipeline, read_pipeline
from realm_reference.server.errors import ApiError

EXAMPLE = Path(__file__).parents[2] / "examples" / "pipelines" / "explain.yaml"
INPUT = {"text": "Rain is water.", "audience": "children"}
TWO = """
name: two
steps:
  - {name: raw, chat: false, params: {max_tokens: 5, temperature: 0}}
  - {name: more, chat: false, template: "{{ input }}!", params: {max_tokens: 7, temperature: 0}}
"""
FAILING = """
name: failing
steps:
  - {name: fine, params: {max_tokens: 3, temperature: 0}}
  - {name: large, OPTIONAL template: "{{ 'word ' * 900 }}"}
  - {name: last, params: {max_tokens: 3, temperature: 0}}
"""


@pytest.fixture
async def server(start_server: Any) -> Any:
    server = await start_server()
    texts = [TWO, FAILING.replace("OPTIONAL ", ""), FAILING.replace("OPTIONAL", "optional: true,")]
    texts[2] = texts[2].replace("name: failing", "name: tolerant")
    known = [read_pipeline(EXAMPLE), *(parse_pipeline(text, "p.yaml") for text in texts)]
    server.service.pipelines = {pipeline.name: pipeline for pipeline in known}
    return server


async def test_each_step_is_what_generate_would_give(client: Any) -> None:
    first = await client.call("generate", prompt="hello", max_tokens=5, temperature=0)
    second = await client.call("generate", prompt=first["data"]["text"] + "!", max_tokens=7, temperature=0)
    data = (await client.call("pipeline", pipeline="two", input="hello"))["data"]
    assert data["text"] == second["data"]["text"]
    assert data["tokens_generated"] == 12
    assert data["prompt_tokens"] == first["data"]["prompt_tokens"] + second["data"]["prompt_tokens"]
    assert [(step["name"], step["status"], step["tokens_generated"]) for step in data["steps"]] == [
        ("raw", "complete", 5), ("more", "complete", 7),
    ]  # fmt: skip


async def test_the_example_streams_its_last_step(client: Any) -> None:
    whole = (await client.call("pipeline", pipeline="explain", input=INPUT))["data"]
    await client.send("s", "pipeline", pipeline="explain", input=INPUT, stream=True)
    *pieces, end = (await client.until_end("s"))["s"]
    assert "".join(piece["data"]["text"] for piece in pieces) == whole["text"] == end["data"]["text"]
    assert [piece["data"]["index"] for piece in pieces] == list(range(len(pieces)))
    assert [piece["data"]["is_final"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert [step["name"] for step in end["data"]["steps"]] == ["summarise", "explain", "simplify"]


async def test_metadata_lists_them(client: Any) -> None:
    cards = {card["name"]: card for card in (await client.call("metadata"))["data"]["pipelines"]}
    assert set(cards) == {"explain", "two", "failing", "tolerant"}
    assert cards["explain"]["inputs"] == ["text", "audience"]


@pytest.mark.parametrize(
    ("params", "param", "code"),
    [
        ({"pipeline": "none", "input": "x"}, "pipeline", "pipeline_not_found"),
        ({"pipeline": "explain", "input": "x"}, "input", "invalid_value"),
        ({"pipeline": "explain", "input": {"text": "x"}}, "input.audience", "invalid_value"),
        ({"pipeline": "two", "input": {"input": "x", "tone": "y"}}, "input.tone", "invalid_value"),
        ({"pipeline": "failing", "input": "x"}, "steps.large", "context_length_exceeded"),
    ],
)
async def test_errors_name_the_step_or_the_input(
    client: Any, params: dict[str, Any], param: str, code: str
) -> None:
    error = await client.error("pipeline", **params)
    assert error["code"] == "DISPATCH_ERROR"
    assert error["details"] == {"param": param, "code": code}
    assert param.partition(".")[2] in error["message"]


async def test_an_optional_step_may_fail(client: Any) -> None:
    data = (await client.call("pipeline", pipeline="tolerant", input="hello"))["data"]
    assert [step["status"] for step in data["steps"]] == ["complete", "failed", "complete"]
    assert "The context holds 640 tokens" in data["steps"][1]["error"]
    assert data["tokens_generated"] == 6


async def test_a_limit_of_the_tenants_is_no_failure_of_a_step(
    client: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **named: Any) -> Any:
        raise ApiError(429, "Too many requests.", code="rate_limit_exceeded")

    monkeypatch.setattr(server.service, "admit", full, raising=False)
    error = await client.error("pipeline", pipeline="tolerant", input="x")
    assert error["code"] == "RATE_LIMIT_EXCEEDED"


@pytest.mark.parametrize("how", ["cancel", "leave"])
async def test_it_ends_with_its_caller(
    client: Any,
    server: Any,
    settled: Callable[[Any], Awaitable[int]],
    slow_model: None,
    how: str,
) -> None:
    await client.send("p", "pipeline", pipeline="explain", input=INPUT)
    while server.service.engine.counters.steps < 5:
        await asyncio.sleep(0.002)
    if how == "cancel":
        await client.send("c", "cancel", id="p")
        replies = {reply["id"]: reply for reply in (await client.next(), await client.next())}
        assert replies["p"]["status"] == "cancelled"
        assert replies["p"]["data"]["tokens_generated"] > 0
    else:
        await client.raw.close()
    at_end = server.service.engine.counters.steps
    assert await settled(server) - at_end <= 2
    assert server.service.engine.open_sessions == 0
