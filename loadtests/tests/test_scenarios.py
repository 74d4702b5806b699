"""What each scenario asks: drawn alike for equal seeds, and a request that servers take."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from realm_loadtests.scenarios import SCENARIOS, user_scenario
from realm_loadtests.settings import Settings
from realm_mocks.server import MockServer, Schedule

SETTINGS = Settings(url="http://127.0.0.1:1", model="m1", adapters=("poet", "clerk"))


def asked(scenario: str, count: int = 40, *, seed: int = 1, user: int = 0) -> list[Any]:
    made = user_scenario(
        Settings(**{**vars(SETTINGS), "scenario": scenario, "seed": seed}), worker=0, user=user
    )
    asks = []
    for number in range(count):
        asks.append(made.next())
        made.heard(f"answer {number}")
    return asks


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_equal_seeds_ask_alike_and_users_differ(name: str) -> None:
    assert asked(name) == asked(name)
    assert asked(name) != asked(name, user=1)
    assert asked(name) != asked(name, seed=2)
    for ask in asked(name):
        json.dumps(ask.body)
        assert ask.body["stream"] is True
        assert [turn["role"] for turn in ask.body["messages"]][-1] == "user"


def test_a_shared_prefix_is_the_whole_runs() -> None:
    prompts = {
        ask.body["messages"][0]["content"] for user in (0, 1) for ask in asked("shared-prefix", user=user)
    }
    assert len(prompts) == 1
    assert len(prompts.pop().split()) > 300


def test_a_conversation_grows_by_what_was_said_and_ends() -> None:
    turns = [ask.body["messages"] for ask in asked("conversation", 7)]
    assert [len(each) for each in turns] == [1, 3, 5, 7, 9, 1, 3]
    assert turns[1][:1] == turns[0]
    assert turns[1][1] == {"role": "assistant", "content": "answer 0"}
    made = user_scenario(Settings(**{**vars(SETTINGS), "scenario": "conversation"}), 0, 0)
    made.next()
    made.heard("")
    assert len(made.next().body["messages"]) == 1  # nothing was said to follow on


def test_lengths_are_what_their_names_say() -> None:
    words = {name: [len(str(ask.body["messages"]).split()) for ask in asked(name)] for name in SCENARIOS}
    assert min(words["long-prompt"]) > 700
    assert max(words["long-answer"]) < 40
    assert 0 < sum(count > 700 for count in words["mixed"]) < 40


def test_half_hang_up_and_a_quarter_reads_slowly() -> None:
    hung_up = [ask.cancel_after for ask in asked("cancel", 200)]
    assert 60 < hung_up.count(None) < 140
    assert set(hung_up) == {None, 32}
    assert 20 < sum(ask.read_pause_s > 0 for ask in asked("slow-readers", 200)) < 80


def test_adapters_are_named_behind_the_model() -> None:
    assert {ask.body["model"] for ask in asked("adapters", 60)} == {"m1", "m1:poet", "m1:clerk"}


@pytest.mark.parametrize("name", ["cancel", "slow-readers"])
def test_what_a_user_does_on_purpose_is_no_failure(run_load: Callable[..., Any], name: str) -> None:
    with MockServer(Schedule(ttft=0.01, itl=0.02, tokens=20)) as server:
        run = run_load(
            server.url,
            "--scenario",
            name,
            "--users",
            "4",
            "--duration",
            "2s",
            "--max-tokens",
            "20",
            "--seed",
            "1",
        )
        records = server.records
    figures = run.result["figures"]
    kind = {"cancel": "cancelled", "slow-readers": "slow"}[name]
    assert run.code == 0
    assert figures[kind] > 0
    assert figures["completed"] > 0
    assert figures["ttft_ms"]["count"] == figures["completed"]
    if name == "cancel":
        hung_up = [record for record in run.records if record["outcome"] == "cancelled"]
        # One read of a busy machine may bring more events than the one at which the user hangs up.
        assert all(10 <= len(record["token_us"]) < 20 for record in hung_up)
        seen = [record.outcome for record in records]
        assert seen.count("disconnected") == figures["cancelled"] + figures["cut"]


def test_a_chunk_of_another_request_is_a_failure(
    run_load: Callable[..., Any], scripted_server: Callable[..., Any], wire: Any
) -> None:
    foreign = wire.chunk("b").replace(b'"c1"', b'"c2"')
    mixed = wire.chunked(*wire.healthy[:2], foreign, *wire.healthy[2:])
    listing = wire.models

    def answer(connection: Any, request: bytes) -> None:
        connection.sendall(listing if request.startswith(b"GET") else mixed)

    run = run_load(scripted_server(answer).url, "--users", "1", "--duration", "1s")
    assert set(run.result["figures"]["errors"]) == {"foreign_chunk"}
    assert run.code == 1
