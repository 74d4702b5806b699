"""Leave to guess over the WebSocket: in a call, and in the steps of a pipeline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from realm_reference.pipelines import PipelineError, Sampling, parse_pipeline

TEXT = "the quick brown fox, the quick brown fox, the quick brown fox"
CALL: dict[str, Any] = {"prompt": TEXT, "max_tokens": 40, "temperature": 0}
PIPELINE = """
name: two
steps:
  - {name: silent, chat: false, params: {max_tokens: 40, temperature: 0, draft_tokens: 0}}
  - {name: guessing, chat: false, template: "TEXT", params: {max_tokens: 40, temperature: 0PARAMS}}
""".replace("TEXT", TEXT)


def counted(server: Any) -> int:
    return int(server.service.engine.counters.draft_tokens)


async def test_a_call_guesses_as_a_request_does(
    start_server: Callable[..., Awaitable[Any]], connect: Callable[..., Awaitable[Any]]
) -> None:
    server = await start_server(draft_tokens=4)
    client = await connect(server)
    assert (await client.call("generate", **CALL, draft_tokens=0))["status"] == "complete"
    assert counted(server) == 0
    for given in ({}, {"draft_tokens": 2}, {"draft_tokens": None}):
        before = counted(server)
        assert (await client.call("generate", **CALL, **given))["status"] == "complete"
        assert counted(server) > before
    for most in (5, 17, "2"):
        error = await client.error("generate", **CALL, draft_tokens=most)
        assert error["details"]["param"] == "draft_tokens"


async def test_a_call_to_a_server_that_does_not_speculate(client: Any) -> None:
    assert (await client.call("generate", **CALL, draft_tokens=0))["status"] == "complete"
    error = await client.error("generate", **CALL, draft_tokens=1)
    assert (error["details"]["param"], "it does not speculate" in error["message"]) == ("draft_tokens", True)


@pytest.mark.parametrize(("allowed", "guesses"), [(0, False), (3, True)])
async def test_a_step_guesses_where_it_may(
    start_server: Callable[..., Awaitable[Any]],
    connect: Callable[..., Awaitable[Any]],
    allowed: int,
    guesses: bool,
) -> None:
    server = await start_server(draft_tokens=allowed)
    client = await connect(server)
    for params in ("", ", draft_tokens: 16"):
        server.service.pipelines = {"two": parse_pipeline(PIPELINE.replace("PARAMS", params), "p.yaml")}
        before = counted(server)
        assert (await client.call("pipeline", pipeline="two", input=TEXT))["status"] == "complete"
        assert (counted(server) > before) is guesses


def test_a_step_says_how_many() -> None:
    step = parse_pipeline(PIPELINE.replace("PARAMS", ", draft_tokens: 2"), "p.yaml").steps[1]
    assert step.sampling.draft_tokens == 2
    assert [step.sampling.within(9, most)["draft_tokens"] for most in (0, 1, 4)] == [0, 1, 2]
    assert [Sampling().within(9, most)["draft_tokens"] for most in (0, 4)] == [0, 4]
    with pytest.raises(PipelineError, match="'draft_tokens' must be an integer from 0 to 16"):
        parse_pipeline(PIPELINE.replace("PARAMS", ", draft_tokens: 17"), "p.yaml")
