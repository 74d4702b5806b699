"""Traces of requests, as an exporter gets them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import aiohttp
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from realm_reference.server.telemetry.tracing import Tracing

StartServer = Callable[..., Awaitable[Any]]
CHAT = "POST /v1/chat/completions"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def server(start_server: StartServer, exporter: InMemorySpanExporter) -> Any:
    server = await start_server()
    server.service.metrics.traces = Tracing(SimpleSpanProcessor(exporter))
    return server


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def children(spans: Sequence[ReadableSpan], parent: ReadableSpan) -> list[ReadableSpan]:
    context = parent.get_span_context()
    assert context is not None
    found = [span for span in spans if span.parent and span.parent.span_id == context.span_id]
    return sorted(found, key=lambda span: span.start_time or 0)


def within(inner: ReadableSpan, outer: ReadableSpan) -> bool:
    times = (outer.start_time, inner.start_time, inner.end_time, outer.end_time)
    known = [moment for moment in times if moment is not None]
    return len(known) == 4 and known == sorted(known)


async def test_from_the_request_to_the_step(server: Any, exporter: InMemorySpanExporter) -> None:
    before = time.time_ns()
    await server.ask(max_tokens=6)
    spans = exporter.get_finished_spans()
    (request,) = (span for span in spans if span.parent is None)
    assert request.name == CHAT
    assert request.start_time
    assert before <= request.start_time <= time.time_ns()
    said = attributes(request)
    assert (said["http.response.status_code"], said["realm.tenant"]) == (200, "default")
    assert (said["gen_ai.usage.output_tokens"], said["realm.finish"]) == (6, "length")
    queue, generation = children(spans, request)
    assert (queue.name, generation.name) == ("queue", "generation")
    assert queue.end_time == generation.start_time
    assert [event.name for event in generation.events] == ["first token"]
    steps = children(spans, generation)
    assert {step.name for step in steps} == {"step"}
    assert 5 <= len(steps) <= 8
    assert attributes(steps[0])["realm.rows"] == said["gen_ai.usage.input_tokens"]
    assert within(queue, request)
    assert within(generation, request)
    assert all(within(step, generation) for step in steps)


async def test_long_generations_have_a_sample_of_their_steps(
    server: Any, exporter: InMemorySpanExporter
) -> None:
    await server.ask(max_tokens=400, temperature=2, seed=1)
    spans = exporter.get_finished_spans()
    (request,) = (span for span in spans if span.name == CHAT)
    steps = [span for span in spans if span.name == "step"]
    generated = attributes(request)["gen_ai.usage.output_tokens"]
    assert len(steps) < 8 + generated / 16


async def test_the_client_may_have_begun_the_trace(server: Any, exporter: InMemorySpanExporter) -> None:
    parent = "b7ad6b7169203331"
    async with aiohttp.ClientSession(server.url) as client:
        for flags in ("01", "00"):
            headers = {"traceparent": f"00-{TRACE}-{parent}-{flags}"}
            assert (await client.get("/v1/models", headers=headers)).status == 200
    (span,) = exporter.get_finished_spans()
    context = span.get_span_context()
    assert context is not None
    assert f"{context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == parent


@pytest.mark.parametrize("value", ["", "x", "00-0-0-01", f"ff-{TRACE}-b7ad6b7169203331-01"])
async def test_a_bad_traceparent_begins_a_new_trace(
    server: Any, exporter: InMemorySpanExporter, value: str
) -> None:
    async with aiohttp.ClientSession(server.url) as client:
        assert (await client.get("/v1/models", headers={"traceparent": value})).status == 200
    (span,) = exporter.get_finished_spans()
    assert span.parent is None


async def test_errors_are_marked_and_probes_left_out(server: Any, exporter: InMemorySpanExporter) -> None:
    async with aiohttp.ClientSession(server.url) as client:
        await client.get("/health")
        await client.post("/v1/chat/completions", json=server.body(top_p=7))
    (span,) = exporter.get_finished_spans()
    assert attributes(span)["error.type"] == "out_of_range"
    assert "hello world" not in span.to_json()


async def test_choices_have_a_generation_each(server: Any, exporter: InMemorySpanExporter) -> None:
    await server.ask(max_tokens=2, n=3, temperature=1)
    generations = [span for span in exporter.get_finished_spans() if span.name == "generation"]
    assert sorted(attributes(span)["realm.choice"] for span in generations) == [0, 1, 2]


async def test_a_ratio_of_nothing_traces_nothing(server: Any, exporter: InMemorySpanExporter) -> None:
    server.service.metrics.traces = Tracing(SimpleSpanProcessor(exporter), 0.0)
    await server.ask(max_tokens=2)
    assert not exporter.get_finished_spans()


async def test_the_collector_gets_them_over_http(start_server: StartServer) -> None:
    from aiohttp import web
    from realm_reference.server.telemetry.tracing import exported

    paths: list[str] = []

    async def collect(request: web.Request) -> web.Response:
        paths.append(request.path)
        assert b"generation" in await request.read()
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/{path:.*}", collect)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server = await start_server()
    try:
        with exported(f"http://127.0.0.1:{runner.addresses[0][1]}", 1.0) as tracing:
            server.service.metrics.traces = tracing
            await server.ask(max_tokens=2)
            server.service.metrics.traces = None
            await asyncio.to_thread(tracing.close)
    finally:
        await runner.cleanup()
    assert paths == ["/v1/traces"]


def test_nothing_of_it_is_imported_unasked() -> None:
    script = (
        "import sys, realm_reference.server.app, realm_reference.server.telemetry.tracing\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
