"""Leave to guess over the wire: what a server that speculates takes, what one that does not refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import click
import pytest
from click.testing import CliRunner
from realm_reference.run_command import run
from realm_reference.serve_commands import serve

StartServer = Callable[..., Awaitable[Any]]


async def refusal(server: Any, **changes: Any) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"{server.url}/v1/chat/completions", json=server.body(**changes)) as response,
    ):
        assert response.status == 400
        error: dict[str, Any] = (await response.json())["error"]
        return error


async def guessed(server: Any) -> float:
    async with aiohttp.ClientSession() as client, client.get(f"{server.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return float(next(line for line in lines if line.startswith("realm_draft_tokens_total ")).split()[1])


async def test_a_server_that_speculates_says_the_same_and_counts(start_server: StartServer) -> None:
    plain, server = await start_server(), await start_server(draft_tokens=4)
    text = "the quick brown fox, the quick brown fox, the quick brown fox"
    due = (await plain.ask(text=text, max_tokens=40))["choices"]
    assert (await server.ask(text=text, max_tokens=40, draft_tokens=0))["choices"] == due
    assert await guessed(server) == 0
    for given in ({}, {"draft_tokens": 2}, {"draft_tokens": None}):
        before = await guessed(server)
        assert len((await server.ask(text=text, max_tokens=40, **given))["choices"]) == 1
        assert await guessed(server) > before


async def test_a_server_that_does_not_speculate_refuses_by_name(start_server: StartServer) -> None:
    server = await start_server()
    error = await refusal(server, draft_tokens=1)
    assert error["param"] == "draft_tokens"
    assert "it does not speculate" in error["message"]
    assert (await server.ask(draft_tokens=0))["choices"]


@pytest.mark.parametrize("value", [-1, 17, 1.5, "4", True, [4]])
async def test_what_is_no_number_of_guesses_is_refused(start_server: StartServer, value: Any) -> None:
    error = await refusal(await start_server(draft_tokens=4), draft_tokens=value)
    assert error["param"] == "draft_tokens"


async def test_no_more_than_the_server_allows(start_server: StartServer) -> None:
    error = await refusal(await start_server(draft_tokens=4), draft_tokens=5)
    assert (error["param"], error["code"]) == ("draft_tokens", "out_of_range")
    assert "at most 4" in error["message"]


@pytest.mark.parametrize("command", [serve, run], ids=["serve", "run"])
def test_a_draft_model_needs_leave_to_guess(command: click.Command) -> None:
    given = ["hello"] if command is run else []
    done = CliRunner().invoke(command, [*given, "--draft-model", "layers:2"])
    assert done.exit_code == 2
    assert "--draft-model needs --draft-tokens N" in done.output
