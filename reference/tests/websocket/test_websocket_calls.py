"""Calls over the WebSocket: answers, streams, many at a time, cancelling, and errors that name what is
wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realm_reference.server.errors import ApiError
from realm_reference.server.websocket.protocol import BadCall, parse_call

Json = dict[str, Any]
_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.none())
_MESSAGES = st.dictionaries(
    st.sampled_from(["id", "function", "params", "tenant_id", "x"]),
    _VALUES | st.dictionaries(st.text(), _VALUES),
).map(json.dumps)
GREEDY: Json = {"prompt": "hello world", "temperature": 0, "max_tokens": 12}


async def test_a_whole_answer(client: Any, server: Any) -> None:
    reply = await client.call("generate", **GREEDY)
    assert set(reply) == {"id", "status", "data"}
    assert reply["status"] == "complete"
    data = reply["data"]
    assert set(data) == {"text", "tokens_generated", "prompt_tokens", "finish_reason", "time_ms"}
    assert data["prompt_tokens"] == server.service.orchestrator.prepare("hello world", "default").tokens
    assert (data["tokens_generated"], data["finish_reason"]) == (12, "length")
    assert data["time_ms"] > 0
    assert (await client.call("generate", **GREEDY))["data"]["text"] == data["text"]


async def test_a_prompt_is_continued_as_it_is_unless_it_is_a_chat(client: Any, server: Any) -> None:
    chat = (await client.call("generate", **GREEDY, chat=True))["data"]
    answer = await server.ask(max_tokens=12)
    assert chat["text"] == answer["choices"][0]["message"]["content"]
    assert chat["prompt_tokens"] == answer["usage"]["prompt_tokens"]
    assert chat["text"] != (await client.call("generate", **GREEDY))["data"]["text"]


async def test_the_defaults_are_realms(client: Any) -> None:
    spelt = {"temperature": 0.7, "top_p": 0.9, "top_k": 0, "repetition_penalty": 1.0, "max_tokens": 100}
    default = await client.call("generate", prompt="hello", seed=3)
    explicit = await client.call("generate", prompt="hello", seed=3, **spelt, stream=False, model="tiny")
    assert default["data"]["text"] == explicit["data"]["text"]
    assert default["data"]["tokens_generated"] <= 100


async def test_a_stream_is_the_whole_answer_in_pieces(client: Any) -> None:
    whole = (await client.call("generate", **GREEDY))["data"]
    await client.send("s", "generate", **GREEDY, stream=True)
    messages = (await client.until_end("s"))["s"]
    *pieces, end = messages
    assert [message["status"] for message in messages] == ["streaming"] * len(pieces) + ["complete"]
    assert [message["data"]["index"] for message in pieces] == list(range(len(pieces)))
    assert [message["data"]["is_final"] for message in pieces] == [False] * (len(pieces) - 1) + [True]
    assert "".join(message["data"]["text"] for message in pieces) == whole["text"] == end["data"]["text"]
    assert len(pieces) > 5
    assert "logprob" not in pieces[0]["data"]
    assert end["data"] | {"time_ms": 0} == whole | {"time_ms": 0}


async def test_each_token_has_its_log_probability_if_asked(client: Any) -> None:
    await client.send("s", "generate", **GREEDY, stream=True, logprobs=True)
    *pieces, last, _ = (await client.until_end("s"))["s"]
    assert len(pieces) == 12
    assert all(piece["data"]["logprob"] <= 0 for piece in pieces)
    assert "logprob" not in last["data"]


async def test_a_stop_string_and_a_seed_reach_the_engine(client: Any) -> None:
    text = (await client.call("generate", **GREEDY))["data"]["text"]
    stopped = (await client.call("generate", **GREEDY, stop=text[4:6]))["data"]
    assert (stopped["text"], stopped["finish_reason"]) == (text[: text.index(text[4:6])], "stop")
    drawn = [
        (await client.call("generate", **{**GREEDY, "temperature": 1.5}, seed=seed))["data"]["text"]
        for seed in (1, 2, 1)
    ]
    assert drawn[0] == drawn[2] != drawn[1]


async def test_calls_run_at_the_same_time_and_keep_apart(client: Any) -> None:
    asked = {f"call-{i}": {**GREEDY, "temperature": 1.5, "seed": i} for i in range(6)}
    alone = {id: (await client.call("generate", **params))["data"]["text"] for id, params in asked.items()}
    for id, params in asked.items():
        await client.send(id, "generate", **params, stream=id != "call-2")
    together = await client.until_end(*asked)
    assert {id: messages[-1]["data"]["text"] for id, messages in together.items()} == alone
    for messages in together.values():
        pieces = [message["data"] for message in messages[:-1]]
        assert [piece["index"] for piece in pieces] == list(range(len(pieces)))
    assert len(set(alone.values())) > 3


@pytest.mark.usefixtures("slow_model")
async def test_other_calls_are_answered_while_one_runs(client: Any) -> None:
    await client.send("long", "generate", prompt="hello", max_tokens=40, temperature=0)
    await client.send("health", "health")
    await client.send("short", "generate", prompt="hello", max_tokens=1)
    assert [(await client.next())["id"] for _ in range(3)] == ["health", "short", "long"]


@pytest.mark.usefixtures("slow_model")
@pytest.mark.parametrize("stream", [True, False])
async def test_a_cancelled_call_stops_its_work(
    client: Any, server: Any, settled: Callable[[Any], Awaitable[int]], stream: bool
) -> None:
    await client.send("long", "generate", prompt="hello", max_tokens=500, stream=stream)
    if stream:
        first = await client.next()
        assert first["status"] == "streaming"
    else:
        while not server.service.orchestrator.running:
            await asyncio.sleep(0.002)
    await client.send("stop", "cancel", id="long")
    messages: list[Json] = []
    while {message["id"] for message in messages if message["status"] != "streaming"} != {"long", "stop"}:
        messages.append(await client.next())
    at_cancel = server.service.engine.counters.steps
    assert await settled(server) - at_cancel <= 2
    [stopped] = [message for message in messages if message["id"] == "stop"]
    assert (stopped["status"], stopped["data"]) == ("complete", {"cancelled": True})
    [end] = [m for m in messages if m["id"] == "long" and m["status"] != "streaming"]
    assert end["status"] == "cancelled"
    assert set(end["data"]) == {"tokens_generated", "prompt_tokens"}
    assert not any(m["status"] == "streaming" and m["data"]["is_final"] for m in messages)
    assert (await client.call("health"))["status"] == "complete", "and nothing of it comes later"


async def test_what_does_not_run_cannot_be_cancelled(client: Any) -> None:
    assert (await client.call("cancel", id="never"))["data"] == {"cancelled": False}
    await client.send("done", "generate", **GREEDY)
    await client.until_end("done")
    assert (await client.call("cancel", id="done"))["data"] == {"cancelled": False}


async def test_health_and_metadata(client: Any, server: Any) -> None:
    assert (await client.call("health"))["data"] == {"status": "ready"}
    data = (await client.call("metadata"))["data"]
    assert (data["model"], data["fingerprint"]) == ("tiny", server.service.model.fingerprint)
    assert set(data["functions"]) == {"generate", "pipeline", "health", "metadata", "cancel"}
    assert data["pipelines"] == []


@pytest.mark.parametrize(
    ("function", "params", "param"),
    [
        ("generate", {}, "prompt"),
        ("generate", {"prompt": None}, "prompt"),
        ("generate", {"prompt": 5}, "prompt"),
        ("generate", {"prompt": ["a"]}, "prompt"),
        ("generate", {"prompt": ""}, "prompt"),
        ("generate", {"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ("generate", {"prompt": "x", "max_tokens": "5"}, "max_tokens"),
        ("generate", {"prompt": "x", "max_tokens": 1.5}, "max_tokens"),
        ("generate", {"prompt": "x", "max_tokens": 10**9}, "max_tokens"),
        ("generate", {"prompt": "x " * 2000}, "prompt"),
        ("generate", {"prompt": "x", "temperature": 2.5}, "temperature"),
        ("generate", {"prompt": "x", "temperature": True}, "temperature"),
        ("generate", {"prompt": "x", "top_p": -1}, "top_p"),
        ("generate", {"prompt": "x", "top_k": -1}, "top_k"),
        ("generate", {"prompt": "x", "repetition_penalty": 0}, "repetition_penalty"),
        ("generate", {"prompt": "x", "stream": "yes"}, "stream"),
        ("generate", {"prompt": "x", "stop": []}, "stop"),
        ("generate", {"prompt": "x", "seed": 2**64}, "seed"),
        ("generate", {"prompt": "x", "model": "other"}, "model"),
        ("generate", {"prompt": "x", "n": 2}, "n"),
        ("generate", {"prompt": "x", "temprature": 1}, "temprature"),
        ("cancel", {}, "id"),
        ("cancel", {"id": 5}, "id"),
        ("health", {"x": 1}, "x"),
        ("pipeline", {"pipeline": "p"}, "input"),
        ("pipeline", {"pipeline": 5, "input": "x"}, "pipeline"),
        ("pipeline", {"pipeline": "p", "input": "x"}, "pipeline"),
        ("pipeline", {"pipeline": "p", "input": [1]}, "input"),
        ("nonsense", {}, "function"),
    ],
)
async def test_a_wrong_call_is_told_what_is_wrong(
    client: Any, function: str, params: Json, param: str
) -> None:
    error = await client.error(function, **params)
    assert error["code"] == "DISPATCH_ERROR"
    assert error["details"]["param"] == param
    assert param in error["message"]


@pytest.mark.parametrize(
    ("text", "id", "param"),
    [
        ("", None, None),
        ("hello", None, None),
        ("[]", None, None),
        ('{"id": "a", "function": "health"', None, None),
        ('{"id": "a", "id": "b", "function": "health"}', None, "id"),
        ("[" * 100_000, None, None),
        ('{"id": "a", "function": "health", "params": ' + "[" * 5000 + "]" * 5000 + "}", None, None),
        ('{"id": "a", "function": "generate", "params": {"prompt": "\\ud800"}}', None, None),
        ('{"id": "a", "function": "generate", "params": {"temperature": NaN}}', None, None),
        ('{"function": "health"}', None, "id"),
        ('{"id": 5, "function": "health"}', None, "id"),
        ('{"id": "", "function": "health"}', None, "id"),
        ('{"id": "' + "x" * 129 + '", "function": "health"}', None, "id"),
        ('{"id": "a"}', "a", "function"),
        ('{"id": "a", "function": 5}', "a", "function"),
        ('{"id": "a", "function": "health", "params": 5}', "a", "params"),
        ('{"id": "a", "function": "health", "args": {}}', "a", "args"),
        ('{"id": "a", "function": "health", "tenant_id": 5}', "a", "tenant_id"),
        ('{"type": "auth", "api_key": "x"}', None, "id"),
    ],
)
async def test_what_is_no_call_gets_its_id_back_or_none(
    client: Any, text: str, id: str | None, param: str | None
) -> None:
    await client.raw.send_str(text)
    reply = await client.next()
    assert (reply["id"], reply["status"]) == (id, "error")
    assert reply["error"].get("details", {}).get("param") == param
    assert (await client.call("health"))["status"] == "complete", "and the connection goes on"


async def test_an_id_comes_back_as_it_was(client: Any) -> None:
    for id in ('"\\\n\u2028', "\N{GRINNING FACE}", "0", "unknown", " x "):
        await client.send(id, "health")
        assert (await client.next())["id"] == id


@pytest.mark.usefixtures("slow_model")
async def test_an_id_that_runs_is_not_taken_twice(client: Any) -> None:
    await client.send("same", "generate", prompt="hello", max_tokens=30)
    wrong = [
        {"id": "same", "function": "generate", "params": {"prompt": "other", "max_tokens": 1}},
        {"id": "same", "function": "generate", "params": {}},
        {"id": "same", "function": "health"},
        {"id": "same", "function": "cancel", "params": {"id": "other"}},
        {"id": "same", "function": 5},
    ]
    for message in wrong:
        await client.raw.send_json(message)
        refused = await client.next()
        assert (refused["id"], refused["status"]) == (None, "error"), message
        assert "'same'" in refused["error"]["message"]
    answered = await client.next()
    assert (answered["id"], answered["data"]["tokens_generated"]) == ("same", 30)
    await client.send("same", "health")
    assert (await client.next())["status"] == "complete", "it is free again"


@pytest.mark.usefixtures("slow_model")
async def test_a_cancel_may_carry_the_id_of_its_call(client: Any) -> None:
    await client.send("same", "generate", prompt="hello", max_tokens=500)
    await client.send("same", "cancel", id="same")
    assert (await client.next())["status"] == "cancelled"
    await client.send("same", "cancel", id="same")
    assert (await client.next())["data"] == {"cancelled": False}


@pytest.mark.usefixtures("slow_model")
async def test_a_connection_runs_so_many_calls_and_no_more(server: Any, client: Any) -> None:
    most = server.service.settings.websocket.max_calls
    for number in range(most + 1):
        await client.send(f"{number}", "generate", prompt="hello", max_tokens=3)
    refused = await client.next()
    assert (refused["id"], refused["error"]["code"]) == (f"{most}", "RATE_LIMIT_EXCEEDED")
    await client.until_end(*(f"{number}" for number in range(most)))


async def test_the_tenants_limits_hold(server: Any, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **named: Any) -> Any:
        raise ApiError(429, "Too many requests.", code="rate_limit_exceeded", headers={"Retry-After": "7"})

    monkeypatch.setattr(server.service, "admit", full, raising=False)
    error = await client.error("generate", **GREEDY)
    assert error == {
        "code": "RATE_LIMIT_EXCEEDED",
        "message": "Too many requests.",
        "details": {"code": "rate_limit_exceeded", "retry_after": "7"},
    }


async def test_a_failure_of_ours_is_said_to_be_one(
    server: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError("a secret of the house")

    monkeypatch.setattr(server.service, "admit", broken, raising=False)
    error = await client.error("generate", **GREEDY)
    assert error["code"] == "INTERNAL_ERROR"
    assert "secret" not in error["message"]


async def test_a_v1_guest_says_what_it_cannot_do(start_server: Any, connect: Any) -> None:
    client = await connect(await start_server("v1"))
    assert (await client.call("generate", **GREEDY))["status"] == "complete"
    error = await client.error("generate", **GREEDY, stop="x")
    assert (error["code"], error["details"]["param"]) == ("DISPATCH_ERROR", "stop")


async def test_calls_are_counted_and_connections_are_not(client: Any, server: Any) -> None:
    async def counted() -> dict[str, float]:
        metrics = server.service.metrics.registry
        wanted = ("realm_requests_total", "realm_requests_success_total", "realm_tokens_generated_total")
        return {name: metrics.get_sample_value(name) or 0.0 for name in wanted}

    before = await counted()
    await client.call("generate", **GREEDY)
    await client.error("generate", prompt=5)
    await client.raw.close()
    await asyncio.sleep(0.05)
    after = await counted()
    assert {name: after[name] - before[name] for name in after} == {
        "realm_requests_total": 2, "realm_requests_success_total": 1, "realm_tokens_generated_total": 12,
    }  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text(alphabet='{}[]:,"\\\\u0d8 idfunctioparms1.e-') | _MESSAGES)
def test_no_message_makes_the_parser_raise_anything_else(text: str) -> None:
    with contextlib.suppress(BadCall):
        assert 1 <= len(parse_call(text).id) <= 128
