"""The MockServer over the wire, through a client that is not ours (aiohttp), and its own records."""

import asyncio
import json
import threading
from typing import Any

import aiohttp
import pytest
from realm_mocks.server import MockServer, Schedule

MESSAGES = [{"role": "user", "content": "Tell me about KESTREL-12"}]


async def post(server: MockServer, **body: Any) -> tuple[int, Any]:
    """A chat request; its status and its JSON, or the list of `data:` payloads of a stream."""
    asked = {"model": server.model, "messages": MESSAGES, "temperature": 0, **body}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/v1/chat/completions", json=asked) as response,
    ):
        text = await response.text()
        if response.content_type == "text/event-stream":
            return response.status, [event.removeprefix("data: ") for event in text.split("\n\n") if event]
        return response.status, json.loads(text)


def content(answer: Any) -> str:
    text: str = answer["choices"][0]["message"]["content"]
    return text


def streamed(events: list[str]) -> str:
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    return "".join(c["delta"].get("content", "") for chunk in chunks for c in chunk["choices"])


async def test_stream_concatenates_to_the_whole_answer(mock_server: MockServer) -> None:
    _, whole = await post(mock_server)
    _, events = await post(mock_server, stream=True)
    assert streamed(events) == content(whole)
    assert events[-1] == "[DONE]"
    assert "KESTREL-12" in content(whole)


async def test_answers_have_characters_that_span_tokens(mock_server: MockServer) -> None:
    _, whole = await post(mock_server)
    assert any(ord(character) > 0x7F for character in content(whole))
    assert "\ufffd" not in content(whole)


async def test_temperature_zero_is_stable_and_seeds_matter(mock_server: MockServer) -> None:
    greedy = [content((await post(mock_server))[1]) for _ in range(2)]
    assert greedy[0] == greedy[1]
    seeded = [content((await post(mock_server, temperature=1, seed=seed))[1]) for seed in (1, 1, 2)]
    assert seeded[0] == seeded[1] != seeded[2]
    free = [content((await post(mock_server, temperature=1))[1]) for _ in range(2)]
    assert free[0] != free[1]


async def test_stop_string_ends_the_text_before_it(mock_server: MockServer) -> None:
    text = content((await post(mock_server))[1])
    stop = text[20:26]
    _, answer = await post(mock_server, stop=stop)
    assert content(answer) == text[: text.find(stop)]
    assert answer["choices"][0]["finish_reason"] == "stop"
    _, events = await post(mock_server, stop=[stop], stream=True)
    assert streamed(events) == content(answer)


@pytest.mark.parametrize("cap", ["max_tokens", "max_completion_tokens"])
async def test_cap_ends_with_length(mock_server: MockServer, cap: str) -> None:
    _, answer = await post(mock_server, **{cap: 5})
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["usage"]["total_tokens"] == 5 + answer["usage"]["prompt_tokens"]


async def test_n_choices_differ_and_count_the_prompt_once(mock_server: MockServer) -> None:
    _, one = await post(mock_server)
    _, two = await post(mock_server, n=2, temperature=1, seed=3)
    assert [choice["index"] for choice in two["choices"]] == [0, 1]
    assert two["choices"][0]["message"] != two["choices"][1]["message"]
    assert two["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]


async def test_usage_chunk_is_the_last_before_done(mock_server: MockServer) -> None:
    _, whole = await post(mock_server)
    _, events = await post(mock_server, stream=True, stream_options={"include_usage": True})
    chunks = [json.loads(event) for event in events[:-1]]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("temperature", 2.5), ("temperature", "hot"), ("temperature", True), ("top_p", -0.1), ("n", 0),
        ("n", 129), ("max_tokens", 0), ("max_tokens", 1.5), ("stop", 3), ("stop", ["a"] * 5), ("stream", 1),
        ("seed", 2**63), ("messages", []), ("messages", "hello"), ("messages", [{"content": "x"}]),
        ("messages", None), ("tools", [{}]), ("stream_options", []), ("frequency_penalty", 3),
        ("presence_penalty", "no"),
    ],
)  # fmt: skip
async def test_bad_parameters_are_refused_by_name(mock_server: MockServer, param: str, value: Any) -> None:
    status, answer = await post(mock_server, **{param: value})
    assert status == 400
    assert answer["error"]["param"] == param
    assert set(answer["error"]) == {"message", "type", "param", "code"}


async def test_unknown_model_route_and_method(mock_server: MockServer) -> None:
    status, answer = await post(mock_server, model="nobody")
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{mock_server.url}/v1/nothing") as response:
            assert response.status == 404
        async with session.get(f"{mock_server.url}/v1/chat/completions") as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")
        async with session.get(f"{mock_server.url}/v1/models") as response:
            assert (await response.json())["data"][0]["id"] == mock_server.model


async def test_key_is_asked_for() -> None:
    with MockServer(api_key="secret") as server:
        async with aiohttp.ClientSession() as session:
            for header, status in (
                (None, 401),
                ("Bearer wrong", 401),
                ("Basic secret", 401),
                ("Bearer secret", 200),
            ):
                headers = {} if header is None else {"Authorization": header}
                async with session.get(f"{server.url}/v1/models", headers=headers) as response:
                    assert response.status == status


async def test_records_keep_the_schedule(mock_server: MockServer) -> None:
    schedule = Schedule(ttft=0.02, itl=0.004, tokens=8, stalls=((5, 0.05),))
    with MockServer(schedule) as server:
        _, events = await post(server, stream=True)
        (record,) = server.records
    assert json.loads(events[0])["id"] == record.id
    assert record.outcome == "completed"
    assert [due - record.arrived_ns for due in record.due_ns] == [round(s * 1e9) for s in schedule.offsets(8)]
    assert 1 <= len(record.sent_ns) <= 8  # a token whose bytes end inside a character has no event
    assert record.finished_ns is not None
    assert record.finished_ns >= record.due_ns[-1]


async def test_no_token_leaves_before_it_is_due() -> None:
    with MockServer(Schedule(ttft=0.01, itl=0.002, tokens=20)) as server:
        _, events = await post(server, stream=True, messages=[{"role": "user", "content": "plain"}])
        (record,) = server.records
    assert len(events) > 2
    assert record.sent_ns == sorted(record.sent_ns)
    assert all(sent >= due for sent, due in zip(record.sent_ns, record.due_ns, strict=False))


async def test_disconnect_frees_the_request() -> None:
    with MockServer(Schedule(itl=0.05, tokens=400)) as server:
        async with aiohttp.ClientSession() as session:
            body = {"model": server.model, "messages": MESSAGES, "stream": True}
            response = await session.post(f"{server.url}/v1/chat/completions", json=body)
            await response.content.readany()
            assert server.in_flight == 1
            response.close()
        async with asyncio.timeout(10):  # the answer would take 20 s
            while server.in_flight:
                await asyncio.sleep(0.01)
        assert server.records[0].outcome == "disconnected"


def test_unknown_defect_is_named() -> None:
    with pytest.raises(ValueError, match="no-such-thing"):
        MockServer(defects=["no-such-thing"])


def test_a_taken_port_is_an_error() -> None:
    with MockServer() as server, pytest.raises(OSError, match="in use"):
        MockServer(port=server.port).start()


@pytest.mark.parametrize("bad", [{"ttft": -1.0}, {"itl": -0.1}, {"tokens": 0}, {"stalls": ((1, -1.0),)}])
def test_impossible_schedules_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="schedule"):
        Schedule(**bad)


async def test_a_server_that_is_stopped_waits_for_nobody() -> None:
    with MockServer(Schedule(ttft=0.01, itl=60.0, tokens=5)) as server:
        idle = await asyncio.open_connection(server.host, server.port)
        async with aiohttp.ClientSession(read_bufsize=1) as session:
            body = {"model": server.model, "messages": MESSAGES, "stream": True}
            response = await session.post(f"{server.url}/v1/chat/completions", json=body)
            await response.content.readany()
            async with asyncio.timeout(20):  # the answer would take minutes
                await asyncio.to_thread(server.stop)
            response.close()
        assert not any(thread.name == "mock-server" for thread in threading.enumerate())
        idle[1].close()
