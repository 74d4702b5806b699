"""A v1 guest that leaves the whole loop to the host, as Realm's own "server" guest does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest
import wasmtime
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import Runtime
from realm_abi.steps import settled
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model
from realm_reference.orchestration import (
    Event,
    Failed,
    Finished,
    FinishReason,
    Generation,
    GenerationRequest,
    GuestLimits,
    Orchestrator,
    Token,
)
from realm_reference.orchestration.grammar import GrammarCompiler, json_grammar
from realm_reference.orchestration.hostfunctions_v1 import HostFunctionsV1
from realm_reference.orchestration.request import prompt_of_ids

MODEL = 1
# Answers what the host generates, or 0 with the host's error: (out, capacity) = (64 KiB, $capacity).
SERVER_GUEST = """(module
  (import "env" "realm_host_generate" (func $generate (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (func (export "realm_new") (result i32) (i32.const 1))
  (func (export "generate") (param $prompt i32) (param $length i32) (param $model i32)
      (param $options i32) (result i32)
    (select (i32.const 0) (i32.const 65536)
      (i32.lt_s
        (call $generate (local.get $model) (local.get $prompt) (local.get $length) (local.get $options)
          (i32.const 65536) (i32.const CAPACITY))
        (i32.const 0)))))"""


class Guests:
    """Orchestrators by guest, on one engine."""

    def __init__(self, model: Model, runtime: Runtime) -> None:
        self.engine = Engine(ArrayRunner(model.transformer))
        self.runtime = runtime
        self.model = model
        self.made: list[Orchestrator] = []

    def of(self, wasm: bytes, limits: GuestLimits | None = None) -> Orchestrator:
        module = self.runtime.compile(wasm)
        self.made.append(Orchestrator(self.model, self.engine, self.runtime, module, limits=limits))
        return self.made[-1]

    def server_guest(self, capacity: int = 65536, limits: GuestLimits | None = None) -> Orchestrator:
        return self.of(wasmtime.wat2wasm(SERVER_GUEST.replace("CAPACITY", str(capacity))), limits)


@pytest.fixture
async def guests(tiny_model: Model, runtime: Runtime) -> AsyncIterator[Guests]:
    guests = Guests(tiny_model, runtime)
    yield guests
    for orchestrator in guests.made:
        await orchestrator.close(0)
    assert guests.engine.open_sessions == 0
    guests.engine.close()


async def answer(orchestrator: Orchestrator, request: GenerationRequest) -> tuple[str, Event]:
    async with asyncio.timeout(60):
        events = [event async for event in orchestrator.submit(request)]
    return "".join(event.text for event in events if isinstance(event, Token)), events[-1]


async def test_the_hosts_loop_says_what_the_guests_own_loop_says(guests: Guests) -> None:
    own, hosted = guests.of(guest_bytes("v1")), guests.server_guest()
    for seed in range(8):
        request = GenerationRequest(own.prepare("hello"), 24, temperature=1.5, seed=seed)
        text, end = await answer(own, request)
        assert (text, end) == await answer(hosted, request)
        assert isinstance(end, Finished)
        assert end.completion_tokens > 0


async def test_it_keeps_what_the_request_wants_of_the_logits(guests: Guests, tiny_model: Model) -> None:
    own, hosted, encode = guests.of(guest_bytes("v1")), guests.server_guest(), tiny_model.tokenizer.encode
    letters = tuple(encode(letter)[0] for letter in "hello")
    grammar = GrammarCompiler(tiny_model.tokenizer).compile(json_grammar({"enum": ["red", "blue"]}))
    plain = GenerationRequest(own.prepare("hello"), 24, temperature=0.0)
    answers = [await answer(own, plain)]
    for changes in (
        {"frequency_penalty": 1.5, "logit_bias": {encode("Q")[0]: 9.0}},
        {"grammar": grammar},
        {"prompt": prompt_of_ids(tiny_model.tokenizer, letters)},
    ):
        answers.append(await answer(own, replace(plain, **changes)))
        assert await answer(hosted, replace(plain, **changes)) == answers[-1]
    assert len({text for text, _ in answers}) == len(answers)


async def test_its_errors_reach_the_guest(guests: Guests, tiny_model: Model) -> None:
    small = guests.server_guest(capacity=2)
    request = GenerationRequest(small.prepare("hello"), 24, temperature=0.0)
    _, end = await answer(small, request)
    assert isinstance(end, Failed)
    assert "buffer_too_small" in end.message
    hosted = guests.server_guest()
    long = replace(request, prompt=hosted.prepare("a" * 2 * tiny_model.context_length))
    _, end = await answer(hosted, long)
    assert isinstance(end, Failed)
    assert "context_full" in end.message


async def test_a_cancelled_request_ends_the_hosts_loop(guests: Guests) -> None:
    hosted = guests.server_guest()
    generation = hosted.submit(GenerationRequest(hosted.prepare("hello"), 500, temperature=0.0))
    while guests.engine.counters.steps < 5:
        await asyncio.sleep(0.001)
    generation.cancel()
    async with asyncio.timeout(60):
        end = [event async for event in generation][-1]
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.CANCELLED
    while hosted.running:
        await asyncio.sleep(0.001)
    steps = guests.engine.counters.steps
    await asyncio.sleep(0.05)
    assert guests.engine.counters.steps == steps


async def test_tensors_and_their_sum(guests: Guests, tiny_model: Model) -> None:
    request = GenerationRequest(guests.server_guest().prepare("hello"), 4)
    host = HostFunctionsV1(tiny_model, guests.engine, request, Generation(60), GuestLimits())
    count, size = np.zeros(1, np.uint32), np.zeros(1, np.uint64)
    assert host.realm_get_model_info(MODEL, count, size) == 0
    assert count[0] == len(tiny_model.file.tensors)
    assert 0 < size[0] < tiny_model.path.stat().st_size
    norm = tiny_model.file.tensor("output_norm.weight")
    out = np.zeros(norm.size + 1, np.float32)
    assert settled(host.realm_get_tensor(MODEL, "output_norm.weight", out)) == norm.nbytes
    assert (out[:-1] == norm).all()
    for name, room, code in (
        ("output_norm.weight", norm.size - 1, ErrorCode.buffer_too_small),
        ("../output_norm.weight", norm.size, ErrorCode.not_found),
    ):
        untouched = np.full(room, 7, np.float32)
        with pytest.raises(AbiError) as caught:
            settled(host.realm_get_tensor(MODEL, name, untouched))
        assert caught.value.code is code
        assert (untouched == 7).all()
    host.close()
