"""The server over a real socket: answers, errors, headers, models, health, metrics."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from realm_reference.orchestration import GuestLimits
from realm_reference.tenants.keys import ApiKey, digest_of

KEY = "realm_alice_0123456789"
CHAT = "/v1/chat/completions"
StartServer = Callable[..., Awaitable[Any]]


async def error_of(response: aiohttp.ClientResponse, status: int) -> dict[str, Any]:
    assert response.status == status, await response.text()
    assert response.content_type == "application/json"
    assert response.headers["x-request-id"]
    body = await response.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


async def test_a_whole_answer(server: Any) -> None:
    answer = await server.ask(max_tokens=5)
    assert answer["id"].startswith("chatcmpl-")
    assert (answer["object"], answer["model"]) == ("chat.completion", "tiny")
    assert answer["system_fingerprint"] == server.service.model.fingerprint
    [choice] = answer["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "length")
    assert choice["message"]["role"] == "assistant"
    rendered = server.service.model.chat.render([{"role": "user", "content": "hello world"}])
    usage = answer["usage"]
    assert usage["prompt_tokens"] == len(server.service.model.tokenizer.encode(rendered))
    assert usage["completion_tokens"] == 5
    assert usage["total_tokens"] == usage["prompt_tokens"] + 5


async def test_the_seed_decides_and_neighbours_do_not(server: Any) -> None:
    def sampled(seed: int | None) -> Awaitable[Any]:
        return server.ask(temperature=1.5, max_tokens=20, seed=seed)

    alone = [(await sampled(seed))["choices"] for seed in range(6)]
    together = await asyncio.gather(*(sampled(seed) for seed in range(6)))
    assert [answer["choices"] for answer in together] == alone
    assert len({json.dumps(choices) for choices in alone}) > 1
    unseeded = await asyncio.gather(*(sampled(None) for _ in range(6)))
    assert len({json.dumps(answer["choices"]) for answer in unseeded}) > 1


async def test_n_choices_of_one_prompt(server: Any) -> None:
    one = await server.ask(temperature=1.5, seed=5, max_tokens=20)
    three = await server.ask(temperature=1.5, seed=5, max_tokens=20, n=3)
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    texts = [choice["message"]["content"] for choice in three["choices"]]
    assert texts[0] == one["choices"][0]["message"]["content"], "the first choice is what n = 1 gives"
    assert len(set(texts)) == 3
    assert three["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]
    assert 20 < three["usage"]["completion_tokens"] <= 60
    again = await server.ask(temperature=1.5, seed=5, max_tokens=20, n=3)
    assert again["choices"] == three["choices"]


async def test_n_choices_are_all_admitted_or_none(start_server: StartServer) -> None:
    server = await start_server(max_running=2, max_waiting=1)
    async with aiohttp.ClientSession(server.url) as client:
        await error_of(await client.post(CHAT, json=server.body(n=4)), 503)
        assert (await client.post(CHAT, json=server.body(n=3))).status == 200
    assert server.service.engine.open_sessions == 0


async def test_a_stop_string_ends_the_text_before_it(server: Any) -> None:
    whole = (await server.ask(max_tokens=30))["choices"][0]["message"]["content"]
    stop = whole[6:8]
    choice = (await server.ask(max_tokens=30, stop=[stop]))["choices"][0]
    assert choice["message"]["content"] == whole[: whole.index(stop)]
    assert choice["finish_reason"] == "stop"


async def test_without_a_limit_it_ends_at_the_context(server: Any) -> None:
    answer = await server.ask(max_tokens=None)
    usage = answer["usage"]
    assert answer["choices"][0]["finish_reason"] in ("length", "stop")
    if answer["choices"][0]["finish_reason"] == "length":
        assert usage["total_tokens"] == server.service.model.context_length


async def test_v1_and_v2_guests_give_the_same_greedy_text(start_server: StartServer) -> None:
    first, second = await start_server("v1"), await start_server("v2")
    for text in ("hello world", "\N{GRINNING FACE} smile", "x" * 90):
        one, two = await first.ask(text=text, max_tokens=24), await second.ask(text=text, max_tokens=24)
        assert one["choices"] == two["choices"]
        assert one["usage"] == two["usage"]
        assert (await first.stream(text=text))[1].count("data: ") > 3


@pytest.mark.parametrize(
    ("changes", "param"), [({"stop": "x"}, "stop"), ({"min_p": 0.1}, "min_p"), ({"seed": -1}, "seed")]
)
async def test_what_v1_cannot_express_is_refused(
    start_server: StartServer, changes: dict[str, Any], param: str
) -> None:
    server = await start_server("v1")
    async with aiohttp.ClientSession(server.url) as client:
        error = await error_of(await client.post(CHAT, json=server.body(**changes)), 400)
    assert (error["param"], error["code"]) == (param, "unsupported_parameter")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_beyond_the_context(server: Any, client: aiohttp.ClientSession, stream: bool) -> None:
    error = await error_of(await client.post(CHAT, json=server.body("a" * 700, stream=stream)), 400)
    assert (error["param"], error["code"]) == ("messages", "context_length_exceeded")
    error = await error_of(await client.post(CHAT, json=server.body(max_tokens=640, stream=stream)), 400)
    assert (error["param"], error["code"]) == ("max_tokens", "context_length_exceeded")
    body = server.body(max_tokens=None, max_completion_tokens=10**6)
    assert (await error_of(await client.post(CHAT, json=body), 400))["param"] == "max_completion_tokens"


async def test_errors_keep_their_status_when_a_stream_was_asked_for(
    server: Any, client: aiohttp.ClientSession
) -> None:
    error = await error_of(await client.post(CHAT, json=server.body(stream=True, top_p=2)), 400)
    assert error["param"] == "top_p"


async def test_an_unknown_model(server: Any, client: aiohttp.ClientSession) -> None:
    error = await error_of(await client.post(CHAT, json={**server.body(), "model": "gpt-4"}), 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert "tiny" in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "unknown_url"),
        ("POST", "/v1/chat/completion", 404, "unknown_url"),
        ("GET", "/v1/models/other", 404, "model_not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
    ],
)
async def test_wrong_paths_and_methods(
    client: aiohttp.ClientSession, method: str, path: str, status: int, code: str
) -> None:
    response = await client.request(method, path)
    assert (await error_of(response, status))["code"] == code
    assert ("Allow" in response.headers) == (status == 405)


async def test_wrong_bodies(start_server: StartServer) -> None:
    server = await start_server(max_body_bytes=2000)
    async with aiohttp.ClientSession(server.url) as client:
        json_type = {"Content-Type": "application/json"}
        plain = await client.post(CHAT, data=b"{}", headers={"Content-Type": "text/plain"})
        assert (await error_of(plain, 415))["code"] == "unsupported_media_type"
        untyped = await client.post(CHAT, data=b"{}", skip_auto_headers=["Content-Type"])
        await error_of(untyped, 415)
        broken = await client.post(CHAT, data=b'{"model":', headers=json_type)
        assert (await error_of(broken, 400))["code"] == "invalid_json"
        large = await client.post(CHAT, data=b" " * 3000, headers=json_type)
        assert (await error_of(large, 413))["code"] == "request_too_large"
        bomb = await client.post(CHAT, data=b" " * 200_000, headers=json_type, compress=True)
        await error_of(bomb, 413)
        assert (await client.post(CHAT, json=server.body())).status == 200


async def test_request_ids(server: Any, client: aiohttp.ClientSession) -> None:
    mine = await client.get("/health", headers={"x-request-id": "my-id.1"})
    assert mine.headers["x-request-id"] == "my-id.1"
    for unusable in ("a" * 129, "a b", "<script>"):
        response = await client.get("/nothing", headers={"x-request-id": unusable})
        assert response.headers["x-request-id"].startswith("req-")
    seen = {(await client.get("/health")).headers["x-request-id"] for _ in range(5)}
    assert len(seen) == 5
    headers = {"x-request-id": "s-1"}
    async with client.post(CHAT, json=server.body(stream=True), headers=headers) as streamed:
        assert streamed.headers["x-request-id"] == "s-1"


async def test_models(client: aiohttp.ClientSession) -> None:
    listed = await (await client.get("/v1/models")).json()
    assert listed["object"] == "list"
    [model] = listed["data"]
    assert (model["id"], model["object"], model["owned_by"]) == ("tiny", "model", "realm")
    assert isinstance(model["created"], int)
    assert await (await client.get("/v1/models/tiny")).json() == model


async def test_keys(start_server: StartServer) -> None:
    keys = (ApiKey("k1", digest_of(KEY), "alice"),)
    server = await start_server(keys=keys)
    async with aiohttp.ClientSession(server.url) as client:
        for headers in ({}, {"Authorization": f"Basic {KEY}"}, {"Authorization": "Bearer wrong-key-here"}):
            response = await client.post(CHAT, json=server.body(), headers=headers)
            assert (await error_of(response, 401))["code"] == "invalid_api_key"
        await error_of(await client.get("/v1/nothing"), 401)
        assert (await client.get("/health")).status == 200
        good = {"Authorization": f"Bearer {KEY}"}
        assert (await client.post(CHAT, json=server.body(), headers=good)).status == 200
        metrics = await (await client.get("/metrics")).text()
    assert 'realm_usage_output_tokens_total{tenant="alice"} 8.0' in metrics


async def test_metrics_are_well_formed_and_true(server: Any, client: aiohttp.ClientSession) -> None:
    answer = await server.ask(max_tokens=6)
    await server.stream(max_tokens=6)
    await client.post(CHAT, json=server.body(top_p=7))
    response = await client.get("/metrics")
    assert response.content_type == "text/plain"
    families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples[("realm_requests_total",)] == 3
    assert samples[("realm_requests_success_total",)] == 2
    assert samples[("realm_requests_errors_total", "validation_error")] == 1
    assert samples[("realm_requests_by_status_total", "200")] == 2
    assert samples[("realm_tokens_generated_total",)] == 12
    assert samples[("realm_usage_output_tokens_total", "default")] == 12
    assert samples[("realm_usage_input_tokens_total", "default")] == 2 * answer["usage"]["prompt_tokens"]
    assert samples[("realm_usage_tokens_total", "tiny")] == 2 * answer["usage"]["total_tokens"]
    assert samples[("realm_time_to_first_token_seconds_count",)] == 2
    assert samples[("realm_inter_token_seconds_count",)] == 10
    assert samples[("realm_engine_sessions",)] == 0
    assert samples[("realm_memory_usage_bytes",)] > 1 << 20
    assert all(family.documentation and family.type != "unknown" for family in families.values())


async def test_a_metrics_port_of_its_own(start_server: StartServer) -> None:
    server = await start_server(metrics_port=0)
    async with aiohttp.ClientSession(server.url) as client:
        await error_of(await client.get("/metrics"), 404)


async def test_past_the_queue_is_a_503_with_retry_after(start_server: StartServer) -> None:
    server = await start_server(max_running=1, max_waiting=1)
    async with aiohttp.ClientSession(server.url) as client:
        responses = await asyncio.gather(
            *(client.post(CHAT, json=server.body(max_tokens=200)) for _ in range(6))
        )
        statuses = sorted(response.status for response in responses)
        assert statuses[0] == 200
        assert statuses[-1] == 503
        for response in responses:
            if response.status == 503:
                assert (await error_of(response, 503))["code"] == "overloaded"
                assert int(response.headers["Retry-After"]) >= 1
        assert (await client.post(CHAT, json=server.body())).status == 200


async def test_the_deadline_is_a_504(start_server: StartServer) -> None:
    server = await start_server(limits=GuestLimits(wall_seconds=0.05))
    async with aiohttp.ClientSession(server.url) as client:
        response = await client.post(CHAT, json=server.body(max_tokens=600, temperature=2, seed=1))
        assert (await error_of(response, 504))["code"] == "timeout"


async def test_health_answers_while_the_engine_works(server: Any, client: aiohttp.ClientSession) -> None:
    work = asyncio.gather(*(server.ask(max_tokens=100) for _ in range(4)))
    while not work.done():
        assert (await client.get("/health")).status == 200
        assert (await client.get("/ready")).status == 200
    await work


async def test_not_ready_once_the_engine_has_stopped(server: Any, client: aiohttp.ClientSession) -> None:
    await asyncio.to_thread(server.service.engine.close)
    response = await client.get("/ready")
    assert response.status == 503
    assert (await response.json())["status"] == "not ready"
    await error_of(await client.post(CHAT, json=server.body()), 500)


async def test_draining_refuses_new_requests_and_finishes_the_running(start_server: StartServer) -> None:
    server = await start_server()
    async with aiohttp.ClientSession(server.url) as client:
        running = asyncio.create_task(server.ask(max_tokens=300))
        while not server.service.orchestrator.running:
            await asyncio.sleep(0.001)
        stopping = asyncio.create_task(server.running.stop())
        await asyncio.sleep(0)
        response = await client.post(CHAT, json=server.body())
        assert (await error_of(response, 503))["code"] == "overloaded"
        assert (await running)["choices"][0]["finish_reason"]
        await stopping


async def test_logs_hold_no_prompt_no_output_and_no_key(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    keys = (ApiKey("k1", digest_of(KEY), "alice"),)
    server = await start_server(keys=keys)
    async with aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {KEY}"}) as client:
        response = await client.post(CHAT, json=server.body("xylophone", max_tokens=20))
        output = (await response.json())["choices"][0]["message"]["content"]
        await client.post(CHAT, json=server.body("xylophone", temperature="xylophone"))
    written = json.dumps([vars(entry) for entry in caplog.records], default=str)
    assert "chat/completions" in written
    assert "alice" in written
    assert "xylophone" not in written
    assert KEY not in written
    assert json.dumps(output)[1:-1] not in written
