"""Requests through the shipped guests: counts, reasons, queue, buffer, and v1 beside v2."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from realm_abi.errors import AbiError
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import Runtime
from realm_abi.steps import Steps, finish, until
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model
from realm_reference.orchestration import (
    Event,
    Failed,
    FailureKind,
    Finished,
    FinishReason,
    Generation,
    GenerationRequest,
    Inexpressible,
    Orchestrator,
    QueueFull,
    Token,
)
from realm_reference.orchestration import generation as generation_module
from realm_reference.orchestration.output import Output
from realm_reference.orchestration.request import encode_with_bos, prepare_prompt


@pytest.fixture
def engine(tiny_model: Model) -> Iterator[Engine]:
    engine = Engine(ArrayRunner(tiny_model.transformer))
    yield engine
    engine.close()


@pytest.fixture
async def guests(
    tiny_model: Model, engine: Engine, runtime: Runtime
) -> AsyncIterator[dict[str, Orchestrator]]:
    guests = {
        name: Orchestrator(
            tiny_model, engine, runtime, runtime.compile(guest_bytes(name)), max_running=2, max_waiting=1
        )
        for name in ("v1", "v2")
    }
    yield guests
    for orchestrator in guests.values():
        await orchestrator.close(0)


@pytest.fixture
def v2(guests: dict[str, Orchestrator]) -> Orchestrator:
    return guests["v2"]


def request_of(
    orchestrator: Orchestrator, text: str = "<|im_start|>hello", **changes: Any
) -> GenerationRequest:
    request = GenerationRequest(orchestrator.prepare(text), max_tokens=20, temperature=0.0)
    return replace(request, **changes)


async def events_of(orchestrator: Orchestrator, request: GenerationRequest) -> list[Event]:
    async with asyncio.timeout(60):
        return [event async for event in orchestrator.submit(request)]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token))


async def test_tokens_and_counts_agree(v2: Orchestrator) -> None:
    events = await events_of(v2, request_of(v2))
    *tokens, end = events
    assert end == Finished(FinishReason.LENGTH, request_of(v2).prompt.tokens, 20)
    assert len([token for token in tokens if isinstance(token, Token) and token.counted]) == 20


async def test_v1_and_v2_agree_on_text_reason_and_counts(guests: dict[str, Orchestrator]) -> None:
    """Sampled at a high temperature: some runs end at a stop token, some in the middle of a character."""
    reasons = set()
    for seed in range(30):
        runs = []
        for orchestrator in guests.values():
            request = request_of(orchestrator, max_tokens=80, temperature=1.7, seed=seed)
            events = await events_of(orchestrator, request)
            runs.append((text_of(events), events[-1]))
        assert runs[0] == runs[1]
        end = runs[0][1]
        assert isinstance(end, Finished)
        assert (end.completion_tokens == 80) == (end.reason is FinishReason.LENGTH)
        reasons.add(end.reason)
    assert reasons == {FinishReason.LENGTH, FinishReason.STOP}


async def test_the_context_ends_a_generation(v2: Orchestrator, tiny_model: Model) -> None:
    prompt = v2.prepare("a" * (tiny_model.context_length - 10))
    end = (await events_of(v2, GenerationRequest(prompt, 500, temperature=0.0)))[-1]
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.LENGTH
    assert end.prompt_tokens + end.completion_tokens >= tiny_model.context_length


async def test_the_prompts_bos_is_there_once(tiny_model: Model) -> None:
    tokenizer = tiny_model.tokenizer
    for text in ("hello", "<|im_start|>hello"):
        ids = encode_with_bos(tokenizer, text)
        assert ids.count(1) == 1
        assert prepare_prompt(tokenizer, text, abi_version=1).tokens == len(ids)
    plain = prepare_prompt(tokenizer, "hello", abi_version=2)
    assert plain.tokens == len(tokenizer.encode("hello", add_bos=plain.add_bos))


@pytest.mark.parametrize(
    "changes", [{"stop": ("x",)}, {"min_p": 0.1}, {"want_logprobs": True}, {"seed": 2**32}, {"seed": -1}]
)
async def test_what_v1_cannot_express(guests: dict[str, Orchestrator], changes: dict[str, Any]) -> None:
    with pytest.raises(Inexpressible) as caught:
        guests["v1"].submit(request_of(guests["v1"], **changes))
    assert caught.value.param in {*changes, "logprobs"}
    assert isinstance((await events_of(guests["v2"], request_of(guests["v2"], **changes)))[-1], Finished)


async def test_logprobs_come_when_wanted(v2: Orchestrator) -> None:
    for wanted in (True, False):
        events = await events_of(v2, request_of(v2, want_logprobs=wanted, temperature=1.0))
        logprobs = [event.logprob for event in events if isinstance(event, Token)]
        assert all((logprob is not None) == wanted for logprob in logprobs)
        assert all(logprob <= 0 for logprob in logprobs if logprob is not None)


async def test_the_queue_is_bounded_and_first_come_first_served(v2: Orchestrator) -> None:
    long = request_of(v2, max_tokens=300)
    generations = [v2.submit(long) for _ in range(3)]  # two run, one waits
    with pytest.raises(QueueFull):
        v2.submit(long)
    async with asyncio.timeout(60):
        ends = [[event async for event in generation][-1] for generation in generations]
    assert all(isinstance(end, Finished) for end in ends)
    assert isinstance((await events_of(v2, long))[-1], Finished)
    assert (v2.running, v2.waiting) == (0, 0)


async def test_a_waiting_request_is_cancelled_at_once(v2: Orchestrator, engine: Engine) -> None:
    long = request_of(v2, max_tokens=500)
    running = [v2.submit(long) for _ in range(2)]
    waiting = v2.submit(long)
    waiting.cancel()
    assert v2.waiting == 0
    assert await waiting.next_event() == Finished(FinishReason.CANCELLED, long.prompt.tokens, 0)
    for generation in running:
        generation.cancel()
        assert [event async for event in generation][-1].reason is FinishReason.CANCELLED
    assert engine.open_sessions == 0


async def test_a_guest_that_waits_for_the_engine_is_woken_by_its_cancellation(
    v2: Orchestrator, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end comes while the step of its neighbour still runs."""
    entered, released = threading.Semaphore(0), threading.Semaphore(0)
    original = type(v2.model.transformer).forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        entered.release()
        assert released.acquire(timeout=30)
        return original(*args, **kwargs)

    monkeypatch.setattr(type(v2.model.transformer), "forward", forward)
    running = v2.submit(request_of(v2))
    assert await asyncio.to_thread(entered.acquire, timeout=10)
    waiting = v2.submit(request_of(v2))
    try:
        async with asyncio.timeout(10):
            while not engine.waiting:
                await asyncio.sleep(0.001)
            waiting.cancel()
            end = await waiting.next_event()
        assert isinstance(end, Finished)
        assert end.reason is FinishReason.CANCELLED
        assert not entered.acquire(blocking=False)
    finally:
        running.cancel()
        released.release(100)


async def test_closing_cancels_what_is_left(v2: Orchestrator) -> None:
    generation = v2.submit(request_of(v2, max_tokens=600))
    await v2.close(0)
    end = [event async for event in generation][-1]
    assert isinstance(end, Failed)
    assert end.kind is FailureKind.SHUTDOWN


async def test_a_full_buffer_holds_the_guest_until_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation_module, "BUFFERED_TOKENS", 3)
    generation = Generation(wall_seconds=60)
    written: list[int] = []

    def guest() -> Steps[None]:
        for number in range(10):
            waiting = generation.put(Token(str(number), number, None))
            if waiting is not None:
                yield from until(waiting)
            written.append(number)
        generation.end(Finished(FinishReason.LENGTH, 1, 10))

    running = asyncio.create_task(asyncio.to_thread(finish, guest()))
    while len(written) < 3:
        await asyncio.sleep(0.001)
    first = await generation.next_event()
    assert len(written) <= 4, "the fourth finds room when the first is taken"
    assert text_of([first, *[event async for event in generation]]) == "0123456789"
    await running


async def test_a_reader_that_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation_module, "BUFFERED_TOKENS", 1)
    generation = Generation(wall_seconds=60, stall_seconds=0.05)
    woken = threading.Event()
    generation.on_cancel(woken.set)
    assert generation.put(Token("x", 0, None)) is None
    waiting = generation.put(Token("x", 1, None))
    assert waiting is not None
    await asyncio.wrap_future(waiting)
    assert woken.is_set()
    assert generation.cause is not None
    assert generation.cause.kind is FailureKind.SLOW_READER


async def test_an_event_survives_a_cancelled_wait() -> None:
    generation = Generation(wall_seconds=60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await generation.next_event()
    generation.put(Token("a", 1, None))
    assert await generation.next_event() == Token("a", 1, None)


async def test_a_generation_ends_once_and_ignores_what_comes_later() -> None:
    generation = Generation(wall_seconds=60)
    called: list[int] = []
    generation.on_cancel(lambda: called.append(1))
    generation.end(Finished(FinishReason.STOP, 1, 1))
    generation.end(Failed(FailureKind.INTERNAL, "late"))
    generation.cancel()
    assert [event async for event in generation] == [Finished(FinishReason.STOP, 1, 1)]
    assert called == []


async def test_a_v1_guest_may_flush_once_after_its_last_token() -> None:
    output = Output(Generation(wall_seconds=60), max_tokens=2, vocab_size=10)
    assert [output.stream("a"), output.stream("b"), output.stream("held back")] == [0, 0, 0]
    assert output.tokens == 2
    with pytest.raises(AbiError):
        output.stream("too much")


def test_generations_on_a_closed_loop_are_dropped_in_silence() -> None:
    async def make() -> Generation:
        return Generation(wall_seconds=60)

    generation = asyncio.run(make())
    generation.put(Token("nobody reads this", 1, None))
    generation.end(Finished(FinishReason.STOP, 1, 1))


async def test_guests_run_side_by_side(v2: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two generations interleave token by token: neither waits for the other's end."""
    order: list[int] = []

    async def read(number: int) -> None:
        generation = v2.submit(request_of(v2, max_tokens=60))
        while isinstance(await generation.next_event(), Token):
            order.append(number)

    original = type(v2.model.transformer).forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.002)
        return original(*args, **kwargs)

    monkeypatch.setattr(type(v2.model.transformer), "forward", forward)
    await asyncio.gather(read(0), read(1))
    changes = sum(a != b for a, b in itertools.pairwise(order))
    assert changes > 30
