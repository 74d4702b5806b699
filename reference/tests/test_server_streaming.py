"""The stream as bytes on a socket: framing, order, timing, endings, and what a closed connection does."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import wasmtime
from realm_reference.orchestration import GuestLimits, generation

StartServer = Callable[..., Awaitable[Any]]
Chunks = list[dict[str, Any]]


async def send(server: Any, **changes: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A raw request on a connection of its own."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    body = json.dumps(server.body(**{"stream": True, **changes})).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    return reader, writer


async def settled(server: Any) -> int:
    """The engine's steps once no guest runs any more."""
    async with asyncio.timeout(20):
        while server.service.orchestrator.running or server.service.orchestrator.waiting:
            await asyncio.sleep(0.005)
    return int(server.service.engine.counters.steps)


def chunks_of(text: str) -> Chunks:
    """The objects of a complete stream; its framing is checked to the byte."""
    assert text.endswith("\n\n")
    events = text[:-2].split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert text.count("[DONE]") == 1
    events = [event for event in events[:-1] if not event.startswith(":")]
    assert all(event.startswith("data: {") and "\n" not in event for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events]


def text_of(chunks: Chunks) -> str:
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


async def test_the_stream_has_the_shape_of_the_contract(server: Any) -> None:
    status, text = await server.stream(max_tokens=12)
    assert status == 200
    chunks = chunks_of(text)
    assert (
        len({(c["id"], c["created"], c["model"], c["object"], c["system_fingerprint"]) for c in chunks}) == 1
    )
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in chunk["choices"][0]["delta"] for chunk in chunks[1:])
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons[:-1] == [None] * (len(chunks) - 1)
    assert reasons[-1] == "length"
    assert all("usage" not in chunk for chunk in chunks)


@pytest.mark.parametrize(
    "changes", [{}, {"temperature": 1.3, "seed": 4}, {"stop": ["e"]}, {"text": "\N{SNOWMAN}"}]
)
async def test_streamed_and_whole_are_the_same_text(server: Any, changes: dict[str, Any]) -> None:
    whole = await server.ask(max_tokens=40, **changes)
    _, text = await server.stream(max_tokens=40, stream_options={"include_usage": True}, **changes)
    chunks = chunks_of(text)
    assert text_of(chunks) == whole["choices"][0]["message"]["content"]
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert chunks[-1]["usage"] == whole["usage"]


async def test_streamed_choices_are_those_of_the_whole_answer(server: Any) -> None:
    changes = {"temperature": 1.3, "seed": 9, "n": 3, "max_tokens": 15}
    whole = await server.ask(**changes)
    _, text = await server.stream(stream_options={"include_usage": True}, **changes)
    *chunks, last = chunks_of(text)
    assert last["usage"] == whole["usage"]
    for expected in whole["choices"]:
        mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == expected["index"]]
        assert ["role" in choice["delta"] for choice in mine] == [True] + [False] * (len(mine) - 1)
        assert (
            "".join(choice["delta"].get("content", "") for choice in mine) == expected["message"]["content"]
        )
        reasons = [choice["finish_reason"] for choice in mine]
        assert reasons == [None] * (len(mine) - 1) + [expected["finish_reason"]]


async def test_usage_comes_last_and_is_null_before(server: Any) -> None:
    _, text = await server.stream(max_tokens=5, stream_options={"include_usage": True})
    chunks = chunks_of(text)
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 5


async def test_the_head_of_a_stream(server: Any) -> None:
    reader, writer = await send(server)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert head.startswith("http/1.1 200 ")
    assert "content-type: text/event-stream" in head
    assert "content-length" not in head
    assert "content-encoding" not in head
    assert "x-request-id: " in head
    writer.close()


@pytest.mark.usefixtures("slow_model")
async def test_each_token_leaves_when_it_is_made(server: Any) -> None:
    """While the k-th content chunk arrives, the engine has not gone further than a step or two beyond it."""
    reader, writer = await send(server, max_tokens=20)
    await reader.readuntil(b"\r\n\r\n")
    ahead: list[int] = []
    received = 0
    while b"[DONE]" not in (line := await reader.readline()):
        if b'"content":"' in line and b'"role"' not in line:
            received += 1
            ahead.append(server.service.engine.counters.steps - received)
    writer.close()
    assert received > 5
    assert min(ahead) <= 3, "the stream came as a burst"


@pytest.mark.usefixtures("slow_model")
async def test_a_connection_is_kept_alive_by_comments(start_server: StartServer) -> None:
    server = await start_server(keep_alive_interval=0.005)
    status, text = await server.stream(max_tokens=5)
    assert status == 200
    assert "\n\n: keep-alive\n\n" in text
    assert text_of(chunks_of(text)) == (await server.ask(max_tokens=5))["choices"][0]["message"]["content"]


@pytest.mark.usefixtures("slow_model")
async def test_a_connection_is_kept_alive_while_its_request_waits(
    start_server: StartServer,
) -> None:
    server = await start_server(max_running=1, keep_alive_interval=0.02)
    _, first = await send(server, max_tokens=30)
    while not server.service.orchestrator.running:
        await asyncio.sleep(0.002)
    reader, second = await send(server, max_tokens=2)
    await reader.readuntil(b": keep-alive\n\n")
    assert server.service.orchestrator.waiting == 1
    text = (await reader.readuntil(b"[DONE]")).decode()
    assert text.count('"finish_reason":"length"') == 1
    first.close()
    second.close()


async def test_segments_are_not_held_back(server: Any) -> None:
    """Nagle's algorithm would hold a token until the one before it is acknowledged."""
    _, writer = await send(server, max_tokens=2)
    [runner] = server.running._runners
    while not runner.server.connections:
        await asyncio.sleep(0.002)
    [connection] = runner.server.connections
    ours = connection.transport.get_extra_info("socket")
    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    writer.close()


@pytest.mark.usefixtures("slow_model")
@pytest.mark.parametrize("stream", [True, False])
async def test_a_closed_connection_stops_the_work(server: Any, stream: bool) -> None:
    _, writer = await send(server, max_tokens=500, stream=stream)
    while server.service.engine.counters.steps < 4:
        await asyncio.sleep(0.002)
    writer.close()
    at_close = server.service.engine.counters.steps
    assert await settled(server) - at_close <= 2
    assert server.service.engine.open_sessions == 0


@pytest.mark.usefixtures("slow_model")
async def test_a_reset_connection_stops_the_work(server: Any) -> None:
    reader, writer = await send(server, max_tokens=500)
    await reader.readuntil(b'"content":"')
    writer.transport.abort()
    at_close = server.service.engine.counters.steps
    assert await settled(server) - at_close <= 2


@pytest.mark.usefixtures("slow_model")
async def test_a_connection_closed_while_it_waits_never_runs(start_server: StartServer) -> None:
    server = await start_server(max_running=1)
    _, first = await send(server, max_tokens=500)
    while not server.service.orchestrator.running:
        await asyncio.sleep(0.002)
    _, second = await send(server, max_tokens=500)
    while not server.service.orchestrator.waiting:
        await asyncio.sleep(0.002)
    second.close()
    async with asyncio.timeout(10):
        while server.service.orchestrator.waiting:
            await asyncio.sleep(0.002)
    assert server.service.orchestrator.running == 1, "the other one goes on"
    first.close()
    await settled(server)


@pytest.mark.usefixtures("slow_model")
async def test_a_connection_closed_in_prefill_stops_it(server: Any) -> None:
    _, writer = await send(server, text="a" * 500, max_tokens=50)
    while not server.service.orchestrator.running:
        await asyncio.sleep(0.001)
    writer.close()
    at_close = server.service.engine.counters.steps
    assert await settled(server) - at_close <= 2


@pytest.mark.usefixtures("slow_model")
async def test_other_streams_survive_a_closed_connection(server: Any) -> None:
    alone = (await server.stream(max_tokens=10))[1]
    _, writer = await send(server, max_tokens=500)
    other = asyncio.create_task(server.stream(max_tokens=10))
    await asyncio.sleep(0.05)
    writer.close()
    assert text_of(chunks_of((await other)[1])) == text_of(chunks_of(alone))


async def test_two_requests_on_one_connection(server: Any) -> None:
    reader, writer = await send(server, stream=False)
    body = json.dumps(server.body()).encode()
    answers = []
    for _ in range(2):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        answers.append(json.loads(await reader.readexactly(length))["choices"])
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
    writer.close()
    assert answers[0] == answers[1]


TRAP_LATER = """
(module
  (import "env" "realm_session_open" (func $open (param i32) (result i32)))
  (import "env" "realm_emit" (func $emit (param i32 i32 i32 i32 f32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "x")
  (func (export "realm_alloc") (param i32) (result i32) i32.const 65536)
  (func (export "generate") (param i32) (result i32)
    (drop (call $emit (call $open (i32.const 1)) (i32.const 5) (i32.const 16) (i32.const 1)
      (f32.const nan) (i32.const 0)))
    unreachable))
"""


async def test_a_failure_in_mid_stream_is_an_error_event_and_the_end(start_server: StartServer) -> None:
    server = await start_server(bytes(wasmtime.wat2wasm(TRAP_LATER)))
    status, text = await server.stream()
    events = text.strip().split("\n\n")
    if status == 200:
        error = json.loads(events[-1].removeprefix("data: "))["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] == "guest_fault"
    assert "[DONE]" not in text
    assert '"finish_reason":"' not in text
    assert (await server.stream())[0] == status, "and the server goes on"


@pytest.mark.usefixtures("slow_model")
async def test_the_deadline_in_mid_stream_is_an_error_event(start_server: StartServer) -> None:
    server = await start_server(limits=GuestLimits(wall_seconds=0.3))
    status, text = await server.stream(max_tokens=500)
    assert status == 200
    assert json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))["error"]["code"] == "timeout"
    assert "[DONE]" not in text


async def test_a_reader_that_takes_nothing_is_given_up(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its buffers are bounded: in the end its guest waits, and then it is cut off."""
    monkeypatch.setattr(generation, "BUFFERED_TOKENS", 4)
    server = await start_server(write_timeout=0.2)
    monkeypatch.setattr(
        "realm_reference.server.answers.objects.ChatAnswer.piece",
        lambda self, index, piece: {"padding": "x" * 1_000_000},
    )
    reader, writer = await send(server, max_tokens=600, temperature=2, seed=1)
    await reader.readuntil(b"\r\n\r\n")
    await settled(server)
    assert server.service.engine.counters.rows < 600
    assert server.service.engine.open_sessions == 0
    writer.close()
