"""The official `openai` client, unmodified, on the reference and on the MockServer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
import wasmtime
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from realm_mocks.server import MockServer, Schedule
from realm_reference.orchestration import GuestLimits
from realm_reference.server.access.tenancy import open_tenancy
from realm_reference.tenants import keyfile
from realm_reference.tenants.keys import generate

StartServer = Callable[..., Awaitable[Any]]
HELLO: list[Any] = [{"role": "user", "content": "hello world"}]


@dataclass
class Peer:
    """A server, as its clients know it."""

    url: str
    model: str

    def sync(self, **options: Any) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", **{"api_key": "any", "max_retries": 0, **options})

    def client(self, **options: Any) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", **{"api_key": "any", "max_retries": 0, **options})


@pytest.fixture(params=["reference", "mock"])
async def peer(request: pytest.FixtureRequest, start_server: StartServer) -> AsyncIterator[Peer]:
    if request.param == "reference":
        server = await start_server()
        yield Peer(server.url, server.model)
        return
    with MockServer(Schedule(tokens=12)) as mock:
        yield Peer(mock.url, mock.model)


async def test_sync_and_async_streamed_and_whole_say_the_same(peer: Peer) -> None:
    wanted: dict[str, Any] = {"model": peer.model, "messages": HELLO, "temperature": 0}
    async with peer.client() as client:
        full = await client.chat.completions.create(**wanted, max_tokens=12)
    # The client's helpers take no answer that was cut at max_tokens, so this one ends at a stop string.
    wanted["stop"] = str(full.choices[0].message.content)[6:9]

    def in_a_thread() -> list[str]:
        with peer.sync() as client:
            whole = client.chat.completions.create(**wanted)
            with client.chat.completions.create(**wanted, stream=True) as stream:
                pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
            with client.chat.completions.stream(**wanted) as events:
                helped = events.get_final_completion().choices[0].message.content
            return [str(whole.choices[0].message.content), "".join(pieces), str(helped)]

    async with peer.client() as client:
        whole = await client.chat.completions.create(**wanted)
        stream = await client.chat.completions.create(**wanted, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
        async with client.chat.completions.stream(**wanted) as events:
            helped = (await events.get_final_completion()).choices[0].message.content
    said = [str(whole.choices[0].message.content), "".join(pieces), str(helped)]
    assert len({*said, *await asyncio.to_thread(in_a_thread)}) == 1
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 0


async def test_the_stream_helper_sees_all_events_and_the_usage(peer: Peer) -> None:
    async with (
        peer.client() as client,
        client.chat.completions.stream(
            model=peer.model, messages=HELLO, max_tokens=6, n=2, stream_options={"include_usage": True}
        ) as stream,
    ):
        kinds = [event.type async for event in stream]
        final = stream.current_completion_snapshot
    assert kinds.count("content.done") == 2
    assert [choice.index for choice in final.choices] == [0, 1]
    assert all(choice.finish_reason for choice in final.choices)
    assert final.usage is not None
    assert final.usage.completion_tokens > 6


async def test_raw_and_streaming_responses(peer: Peer) -> None:
    async with peer.client() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=peer.model, messages=HELLO, max_tokens=2
        )
        assert raw.headers["content-type"].startswith("application/json")
        assert raw.parse().choices
        async with client.chat.completions.with_streaming_response.create(
            model=peer.model, messages=HELLO, max_tokens=4, stream=True
        ) as response:
            lines = [line async for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert all(line.startswith("data: ") for line in lines)


async def test_models(peer: Peer) -> None:
    async with peer.client() as client:
        base, *adapters = [model.id async for model in client.models.list()]
    assert base == peer.model
    assert all(adapter.startswith(f"{base}:") for adapter in adapters)


async def test_errors_are_the_clients_exceptions(peer: Peer) -> None:
    async with peer.client() as client:
        create = client.chat.completions.create
        with pytest.raises(openai.BadRequestError) as bad:
            await create(model=peer.model, messages=HELLO, top_p=7)
        assert (bad.value.param, bad.value.type) == ("top_p", "invalid_request_error")
        with pytest.raises(openai.BadRequestError, match="temperature"):
            await create(model=peer.model, messages=HELLO, temperature="hot", stream=True)  # type: ignore[call-overload]
        with pytest.raises(openai.NotFoundError) as missing:
            await create(model="gpt-9", messages=HELLO)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            await client.get("/nothing", cast_to=object)
        assert (await create(model=peer.model, messages=HELLO, max_tokens=1)).choices


async def test_the_whole_surface_of_the_reference(server: Any) -> None:
    async with Peer(server.url, server.model).client() as client:
        answer = await client.chat.completions.create(
            model=server.model,
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "hello"}]},
                {"role": "assistant", "content": "hi"},
                {"role": "user", "content": "more"},
            ],
            temperature=0.7,
            top_p=0.9,
            n=2,
            seed=3,
            stop=["zz"],
            max_completion_tokens=5,
            user="somebody",
            extra_body={"top_k": 20, "min_p": 0.01, "repetition_penalty": 1.1},
            extra_headers={"x-request-id": "from-a-client"},
        )
        assert answer._request_id == "from-a-client"
        assert len(answer.choices) == 2
        assert answer.system_fingerprint == server.service.model.fingerprint
        assert (await client.models.retrieve(server.model)).id == server.model


async def test_a_key_is_needed_and_named(start_server: StartServer) -> None:
    server = await start_server(keys=())
    async with Peer(server.url, server.model).client(api_key="wrong") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.models.list()
    assert refused.value.code == "invalid_api_key"
    assert refused.value.request_id


@pytest.mark.usefixtures("slow_model")
async def test_a_full_server_is_tried_again_when_it_says(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sleeps as long as Retry-After says, then gets its answer."""
    server = await start_server(max_running=1, max_waiting=0, retry_after=3)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        while server.service.orchestrator.running:
            await asyncio.sleep(0.01)

    monkeypatch.setattr("openai._base_client.anyio.sleep", sleep)
    peer = Peer(server.url, server.model)
    async with peer.client() as holder, peer.client(max_retries=2) as patient:
        stream = await holder.chat.completions.create(
            model=peer.model, messages=HELLO, max_tokens=20, stream=True
        )
        with pytest.raises(openai.InternalServerError) as full:
            await holder.chat.completions.create(model=peer.model, messages=HELLO, max_tokens=2)
        assert full.value.status_code == 503
        waiting = asyncio.create_task(
            patient.chat.completions.create(model=peer.model, messages=HELLO, max_tokens=2)
        )
        assert [chunk async for chunk in stream]
        assert (await waiting).choices
    assert slept == [3.0]


@pytest.mark.usefixtures("slow_model")
async def test_timeouts_and_cancellation_stop_the_work(server: Any) -> None:
    orchestrator = server.service.orchestrator

    async def idle() -> None:
        async with asyncio.timeout(10):
            while orchestrator.running or orchestrator.waiting:
                await asyncio.sleep(0.005)

    async with Peer(server.url, server.model).client() as client:
        create = client.chat.completions.create
        with pytest.raises(openai.APITimeoutError):
            await create(model=server.model, messages=HELLO, max_tokens=500, timeout=0.3)
        await idle()
        stream = await create(model=server.model, messages=HELLO, max_tokens=500, stream=True)
        async for _ in stream:
            break
        await stream.close()
        await idle()
        task = asyncio.create_task(create(model=server.model, messages=HELLO, max_tokens=500))
        while not orchestrator.running:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await idle()
    assert server.service.engine.open_sessions == 0


@pytest.mark.usefixtures("slow_model")
async def test_an_error_in_mid_stream_is_raised(start_server: StartServer) -> None:
    server = await start_server(limits=GuestLimits(wall_seconds=0.3))
    async with Peer(server.url, server.model).client() as client:
        stream = await client.chat.completions.create(
            model=server.model, messages=HELLO, max_tokens=500, stream=True
        )
        with pytest.raises(openai.APIError) as failed:
            [chunk async for chunk in stream]
    assert failed.value.code == "timeout"


async def test_a_server_error_is_raised(start_server: StartServer) -> None:
    trap = (
        '(module (import "env" "realm_session_open" (func (param i32) (result i32)))'
        ' (memory (export "memory") 1) (func (export "realm_alloc") (param i32) (result i32) i32.const 1024)'
        ' (func (export "generate") (param i32) (result i32) unreachable))'
    )
    server = await start_server(bytes(wasmtime.wat2wasm(trap)))
    async with Peer(server.url, server.model).client() as client:
        with pytest.raises(openai.InternalServerError) as failed:
            await client.chat.completions.create(model=server.model, messages=HELLO)
    assert failed.value.code == "guest_fault"


class Shirt(BaseModel):
    """What a structured answer is parsed into."""

    colour: Literal["red", "green"]
    clean: bool


async def test_structured_answers(server: Any) -> None:
    async with Peer(server.url, server.model).client() as client:
        asked: dict[str, Any] = {
            "model": server.model,
            "messages": HELLO,
            "response_format": Shirt,
            "temperature": 1.5,
            "seed": 4,
        }
        whole = await client.chat.completions.parse(**asked)
        async with client.chat.completions.stream(**asked) as stream:
            streamed = await stream.get_final_completion()
    parsed = whole.choices[0].message.parsed
    assert isinstance(parsed, Shirt)
    assert streamed.choices[0].message.parsed == parsed


async def test_a_limit_is_a_rate_limit_error_and_is_waited_out(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, keys = tmp_path / "tenants.toml", tmp_path / "keys.json"
    limits.write_text("[defaults]\nrequests_per_minute = 6\nrequests_burst = 2\n")
    key, kept = generate("alice", "", "")
    keyfile.change(keys, lambda known: (*known, kept), create=True)
    slept: list[float] = []
    sleep = asyncio.sleep

    async def no_sleep(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr("openai._base_client.anyio.sleep", no_sleep)
    with open_tenancy(keys, limits, None) as tenancy:
        server = await start_server(tenancy=tenancy)
        async with Peer(server.url, server.model).client(api_key=key, max_retries=1) as client:
            for _ in range(2):
                await client.chat.completions.create(model=server.model, messages=HELLO, max_tokens=1)
            with pytest.raises(openai.RateLimitError) as refused:
                await client.chat.completions.create(model=server.model, messages=HELLO, max_tokens=1)
    [waited] = slept
    assert 0 <= float(refused.value.response.headers["retry-after"]) - waited < 1
    assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"


async def test_text_completions(server: Any) -> None:
    async with Peer(server.url, server.model).client() as client:
        asked: dict[str, Any] = {
            "model": server.model,
            "prompt": "hello wor",
            "max_tokens": 6,
            "temperature": 0,
        }
        whole = await client.completions.create(**asked, echo=True, logprobs=2)
        stream = await client.completions.create(**asked, stream=True)
        pieces = "".join([chunk.choices[0].text async for chunk in stream])
        several = await client.completions.create(**{**asked, "prompt": ["hello", "world"]})
        with pytest.raises(openai.BadRequestError) as refused:
            await client.completions.create(**{**asked, "logprobs": 9})
    [choice] = whole.choices
    assert choice.text == "hello wor" + pieces
    assert choice.logprobs is not None
    assert choice.logprobs.tokens is not None
    assert "".join(choice.logprobs.tokens).startswith("hello")
    assert [choice.index for choice in several.choices] == [0, 1]
    assert refused.value.param == "logprobs"


async def test_logprobs(peer: Peer) -> None:
    async with peer.client() as client:
        answer = await client.chat.completions.create(
            model=peer.model, messages=HELLO, max_tokens=4, logprobs=True, top_logprobs=3
        )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 4
    assert all(len(entry.top_logprobs) == 3 and entry.logprob <= 0 for entry in logprobs.content)
