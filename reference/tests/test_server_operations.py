"""What those who run the server ask it: alive, ready, and how much of everything."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from realm_reference.server.routes.operations import VERSION
from realm_reference.server.telemetry.logs import JsonFormatter

StartServer = Callable[..., Awaitable[Any]]

DOCUMENTED = {
    "realm_requests_total",
    "realm_requests_success_total",
    "realm_requests_errors_total",
    "realm_requests_by_status_total",
    "realm_usage_input_tokens_total",
    "realm_usage_output_tokens_total",
    "realm_usage_tokens_total",
    "realm_usage_requests_total",
    "realm_request_duration_seconds_count",
    "realm_memory_usage_bytes",
    "realm_tokens_generated_total",
    "realm_time_to_first_token_seconds_count",
    "realm_inter_token_seconds_count",
    "realm_queue_seconds_count",
    "realm_engine_step_seconds_count",
    "realm_engine_batch_rows_count",
    "realm_engine_batch_sequences_count",
    "realm_prefix_cache_hit_tokens_total",
    "realm_preemptions_total",
    "realm_kv_cache_usage_ratio",
    "realm_kv_cache_tokens",
    "realm_kv_cache_bytes",
    "realm_sandboxes",
    "realm_requests_waiting",
}


async def scrape(server: Any) -> dict[tuple[str, ...], float]:
    async with aiohttp.ClientSession(server.url) as client:
        text = await (await client.get("/metrics")).text()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_ready_says_what_runs(start_server: StartServer) -> None:
    server = await start_server()
    async with aiohttp.ClientSession(server.url) as client:
        assert (await (await client.get("/health")).json())["version"] == VERSION
        response = await client.get("/ready")
        assert response.status == 200
        state = await response.json()
    assert (state["status"], state["model"], state["guest_abi"]) == ("ready", "tiny", 2)
    assert (state["version"], state["running"], state["waiting"]) == (VERSION, 0, 0)


async def test_a_prompt_that_was_there_before_is_counted(start_server: StartServer) -> None:
    server = await start_server()
    name = ("realm_prefix_cache_hit_tokens_total",)
    long = server.body("hello world " * 20)["messages"]
    await server.ask(messages=long)
    assert (await scrape(server))[name] == 0
    await server.ask(messages=long)
    assert (await scrape(server))[name] >= 64


async def test_a_stuck_engine_is_not_ready_and_health_goes_on(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(pulse_seconds=0.05)
    entered, released = threading.Event(), threading.Event()
    transformer = type(server.service.model.transformer)
    original = transformer.forward

    def forward(*args: object, **kwargs: object) -> object:
        entered.set()
        assert released.wait(30)
        return original(*args, **kwargs)

    monkeypatch.setattr(transformer, "forward", forward)
    answer = asyncio.ensure_future(server.ask())
    try:
        assert await asyncio.to_thread(entered.wait, 30)
        async with aiohttp.ClientSession(server.url) as client:
            probes = await asyncio.gather(*(client.get("/ready") for _ in range(20)))
            assert {probe.status for probe in probes} == {503}
            assert "no step" in (await probes[0].json())["reason"]
            assert (await client.get("/health")).status == 200
            released.set()
            await answer
            assert (await client.get("/ready")).status == 200
    finally:
        released.set()


async def test_every_documented_name_is_there(start_server: StartServer) -> None:
    server = await start_server()
    await server.stream(max_tokens=4)
    await server.stream(top_p=7)
    assert {name for name, *_ in await scrape(server)} >= DOCUMENTED


async def test_the_gauges_follow_a_request(start_server: StartServer) -> None:
    server = await start_server()
    async with (
        aiohttp.ClientSession(server.url) as client,
        client.post(
            "/v1/chat/completions", json=server.body(max_tokens=600, stream=True, temperature=2, seed=1)
        ) as response,
    ):
        await response.content.readline()
        during = await scrape(server)
        assert during[("realm_sandboxes",)] == 1
        assert during[("realm_kv_cache_tokens",)] >= 1
        assert during[("realm_kv_cache_bytes",)] > during[("realm_kv_cache_tokens",)]
        await response.read()
    after = await scrape(server)
    assert {after[(f"realm_{name}",)] for name in ("sandboxes", "kv_cache_tokens", "kv_cache_bytes")} == {0}


async def test_no_client_makes_the_page_grow(start_server: StartServer) -> None:
    server = await start_server()

    async def strange(mark: str) -> None:
        async with aiohttp.ClientSession(server.url) as client:
            await client.post("/v1/chat/completions", json=server.body(model=mark, user=mark))
            await client.post("/v1/chat/completions", json=server.body(**{mark: 1}))
            await client.get(f"/{mark}")
            await client.request(mark.upper(), "/v1/models", headers={"x-request-id": mark})

    await strange("mark0")
    await scrape(server)  # is itself a request with a status
    before = await scrape(server)
    for number in range(1, 6):
        await strange(f"mark{number}")
    after = await scrape(server)
    assert after.keys() == before.keys()
    assert not [series for series in after if any("mark" in part.lower() for part in series)]


async def test_a_request_is_one_line_and_a_probe_is_none(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = await start_server()
    caplog.set_level("INFO", "realm_reference")
    async with aiohttp.ClientSession(server.url) as client:
        for path in ("/health", "/ready", "/metrics"):
            assert (await client.get(path)).status == 200
        body = server.body("the words of a prompt", max_tokens=3)
        answer = await client.post("/v1/chat/completions", json=body, headers={"x-request-id": "req-one"})
        text = (await answer.json())["choices"][0]["message"]["content"]
        await client.get("/nowhere")
    lines = [record for record in caplog.records if record.message == "request"]
    one, other = (vars(line) for line in lines)
    assert (one["request_id"], one["tenant"], one["route"]) == ("req-one", "default", "/v1/chat/completions")
    assert (one["status"], one["completion_tokens"], one["finish"]) == (200, 3, "length")
    assert one["prompt_tokens"] > 3
    assert 0 <= one["queue_seconds"] <= one["ttft_seconds"] <= one["seconds"]
    assert (other["status"], other["error"]) == (404, "unknown_url")
    written = " ".join(map(JsonFormatter().format, caplog.records))
    assert "the words of a prompt" not in written
    assert text not in written
