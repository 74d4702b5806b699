"""Guests that trap, loop, lie and grab, beside a healthy request that must not notice.

Each hostile guest is a few lines of WAT in a common frame. The healthy one is the shipped guest, on the
same engine and runtime, at the same time; its tokens have to be those that it gives alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import wasmtime
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import GuestModule, Runtime
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model
from realm_reference.orchestration import (
    End,
    Event,
    Failed,
    FailureKind,
    Finished,
    FinishReason,
    GenerationRequest,
    GuestLimits,
    Orchestrator,
    Token,
)

FRAME = """
(module
  (import "env" "realm_session_open" (func $open (param i32) (result i32)))
  (import "env" "realm_session_free" (func $free (param i32) (result i32)))
  (import "env" "realm_forward" (func $forward (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "realm_emit" (func $emit (param i32 i32 i32 i32 f32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "x")
  (global $top (mut i32) (i32.const 65536))
  (global $s (mut i32) (i32.const 0))
  (func (export "realm_alloc") (param $len i32) (result i32)
    (global.get $top)
    (global.set $top
      (i32.and (i32.add (i32.add (global.get $top) (local.get $len)) (i32.const 15)) (i32.const -16))))
  (func $start (global.set $s (call $open (i32.const 1))))
  (func $step
    (drop (call $forward (global.get $s) (i32.const 0) (i32.const 1) (i32.const 1024) (i32.const 0)
      (i32.const 0))))
  (func $token (param $id i32) (param $flags i32) (result i32)
    (call $emit (global.get $s) (local.get $id) (i32.const 16) (i32.const 1) (f32.const -1)
      (local.get $flags)))
  (func (export "generate") (param $request i32) (result i32)
    BODY))
"""
NORMAL, STOP = "(i32.const 5) (i32.const 0)", "(i32.const 2) (i32.const 1)"
FAULT, LIMIT = FailureKind.GUEST_FAULT, FailureKind.LIMIT

GUESTS = {
    "traps": ("unreachable", FAULT),
    "traps in mid-generation": (
        f"(call $start) (call $step) (drop (call $token {NORMAL})) unreachable",
        FAULT,
    ),
    "loops": ("(loop $l (br $l)) unreachable", FAULT),
    "calls the host for ever": ("(call $start) (loop $l (call $step) (br $l)) unreachable", LIMIT),
    "grabs memory": (
        "(drop (memory.grow (i32.const 60000))) (i32.store (i32.const 9000000) (i32.const 1)) i32.const 0",
        FAULT,
    ),
    "opens sessions without end": (
        "(loop $l (call $start) (br_if $l (i32.gt_s (global.get $s) (i32.const 0)))) (global.get $s)",
        LIMIT,
    ),
    "uses a session that is not its own": (f"(global.set $s (i32.const 77)) (call $token {NORMAL})", FAULT),
    "asks for another model": ("(call $open (i32.const 2))", FAULT),
    "uses a freed session": (
        f"(call $start) (drop (call $free (global.get $s))) (call $token {NORMAL})",
        FAULT,
    ),
    "emits a token outside the vocabulary": (
        "(call $start) (call $token (i32.const 99999) (i32.const 0))",
        FAULT,
    ),
    "emits after a stop token": (
        f"(call $start) (drop (call $token {STOP})) (call $token {NORMAL})",
        FAULT,
    ),
    "emits more than was asked for": (
        f"(call $start) (loop $l (br_if $l (i32.eqz (call $token {NORMAL})))) i32.const 2",
        FAULT,
    ),
    "claims an impossible probability": (
        "(call $start) (call $emit (global.get $s) (i32.const 5) (i32.const 16) (i32.const 1) (f32.const 3)"
        " (i32.const 0))",
        FAULT,
    ),
    "reports an end that did not happen": ("i32.const 2", FAULT),
    "says that it was cancelled": ("i32.const 3", FAULT),
    "answers nonsense": ("i32.const 12345", FAULT),
    "reports a full context": ("i32.const -10", FailureKind.CONTEXT_FULL),
    "reports no memory": ("i32.const -9", FailureKind.OUT_OF_MEMORY),
}
LIMITS = GuestLimits(memory_bytes=4 << 20, guest_seconds=0.3, wall_seconds=30, host_calls_base=500)
ENDLESS = "(call $start) (loop $l (call $step) (br $l)) unreachable"


def compile_guest(runtime: Runtime, body: str) -> GuestModule:
    return runtime.compile(bytes(wasmtime.wat2wasm(FRAME.replace("BODY", body))))


@pytest.fixture
def engine(tiny_model: Model) -> Iterator[Engine]:
    engine = Engine(ArrayRunner(tiny_model.transformer))
    yield engine
    engine.close()


@pytest.fixture
async def healthy(tiny_model: Model, engine: Engine, runtime: Runtime) -> AsyncIterator[Orchestrator]:
    orchestrator = Orchestrator(tiny_model, engine, runtime, runtime.compile(guest_bytes("v2")))
    yield orchestrator
    await orchestrator.close(0)


def request_of(orchestrator: Orchestrator, text: str, max_tokens: int = 24) -> GenerationRequest:
    return GenerationRequest(orchestrator.prepare(text), max_tokens, temperature=0.9, seed=11)


async def events_of(orchestrator: Orchestrator, request: GenerationRequest) -> list[Event]:
    async with asyncio.timeout(60):
        return [event async for event in orchestrator.submit(request)]


def end_of(events: list[Event]) -> End:
    assert all(isinstance(event, Token) for event in events[:-1])
    end = events[-1]
    assert not isinstance(end, Token)
    return end


@pytest.mark.parametrize("name", GUESTS)
async def test_a_hostile_guest_harms_only_its_own_request(
    name: str, tiny_model: Model, engine: Engine, runtime: Runtime, healthy: Orchestrator
) -> None:
    body, kind = GUESTS[name]
    hostile = Orchestrator(tiny_model, engine, runtime, compile_guest(runtime, body), limits=LIMITS)
    well = request_of(healthy, "hello world")
    alone = await events_of(healthy, well)
    try:
        bad, together = await asyncio.gather(
            events_of(hostile, request_of(hostile, "hello")), events_of(healthy, well)
        )
    finally:
        await hostile.close(0)
    end = end_of(bad)
    assert isinstance(end, Failed)
    assert end.kind is kind
    assert together == alone
    assert isinstance(end_of(alone), Finished)
    assert engine.open_sessions == 0
    assert engine.alive


async def test_a_guest_that_ignores_its_cancellation_is_interrupted(
    tiny_model: Model, engine: Engine, runtime: Runtime
) -> None:
    limits = GuestLimits(guest_seconds=0.3, host_calls_base=10**12)
    orchestrator = Orchestrator(tiny_model, engine, runtime, compile_guest(runtime, ENDLESS), limits=limits)
    generation = orchestrator.submit(request_of(orchestrator, "hello"))
    while engine.counters.steps == 0:
        await asyncio.sleep(0.001)
    generation.cancel()
    async with asyncio.timeout(30):
        end = await generation.next_event()
        await orchestrator.close(0)
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.CANCELLED
    assert engine.open_sessions == 0


async def test_the_wall_clock_ends_a_guest(tiny_model: Model, engine: Engine, runtime: Runtime) -> None:
    limits = GuestLimits(guest_seconds=0.3, host_calls_base=10**12, wall_seconds=0.1)
    orchestrator = Orchestrator(tiny_model, engine, runtime, compile_guest(runtime, ENDLESS), limits=limits)
    end = end_of(await events_of(orchestrator, request_of(orchestrator, "hello")))
    await orchestrator.close(0)
    assert isinstance(end, Failed)
    assert end.kind is FailureKind.DEADLINE
