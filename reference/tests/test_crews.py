"""Who takes the steps of guests: all come to their ends, and nobody waits for what another computes."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import wasmtime
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import Runtime, fibers_work
from realm_abi.steps import Steps, aside, settled, until
from realm_reference import assembly
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model
from realm_reference.orchestration import (
    Event,
    Failed,
    FailureKind,
    Finished,
    Generation,
    GenerationRequest,
    GuestLimits,
    Orchestrator,
    Prompt,
)
from realm_reference.orchestration.crews import Crew, Fibers, Threads
from realm_reference.orchestration.hostfunctions_v2 import HostFunctionsV2

WAIT = 60
SPINNING = """(module
  (import "env" "realm_abi_version" (func $version (result i32)))
  (memory (export "memory") 1)
  (func (export "realm_alloc") (param i32) (result i32) i32.const 1024)
  (func (export "generate") (param i32) (result i32) (loop br 0) unreachable))"""


@pytest.fixture(params=[Threads, Fibers])
def crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    crew: Crew = request.param(8)
    yield crew
    crew.close()


def taken(crew: Crew, steps: Steps[object]) -> Future[object]:
    """What the steps return or raise, when the crew has taken all of them."""
    outcome: Future[object] = Future()

    def all_of_them() -> Steps[None]:
        try:
            outcome.set_result((yield from steps))
        except BaseException as error:
            outcome.set_exception(error)

    crew.start(all_of_them())
    return outcome


def test_all_come_to_their_ends(crew: Crew) -> None:
    def counting(number: int) -> Steps[int]:
        for _ in range(number % 5):
            yield None
        return number

    ends = [taken(crew, counting(number)) for number in range(40)]
    assert [end.result(WAIT) for end in ends] == list(range(40))


def test_they_wait_for_each_other(crew: Crew) -> None:
    """Each of a ring waits for the one before it, and the first is let go last."""
    futures: list[Future[int]] = [Future() for _ in range(8)]

    def link(number: int) -> Steps[None]:
        futures[number].set_result((yield from until(futures[number - 1])) + 1)

    ends = [taken(crew, link(number)) for number in range(7, 0, -1)]
    futures[0].set_result(0)
    for end in ends:
        end.result(WAIT)
    assert futures[-1].result(WAIT) == 7


def test_who_is_awaited_goes_on_beside_those_that_compute(crew: Crew) -> None:
    over = threading.Event()

    def computing() -> Steps[None]:
        while not over.is_set():
            yield None

    def asking() -> Steps[int]:
        for _ in range(20):
            yield from aside(lambda: None)
        return 20

    spinning = [taken(crew, computing()) for _ in range(4)]
    assert taken(crew, asking()).result(WAIT) == 20
    over.set()
    for end in spinning:
        end.result(WAIT)


def test_work_aside_holds_nobody_up(crew: Crew) -> None:
    """One thing done aside waits for another: they do not queue behind each other."""
    gate = threading.Event()
    waiting = taken(crew, aside(lambda: gate.wait(WAIT)))
    assert taken(crew, aside(gate.set)).result(WAIT) is None
    assert waiting.result(WAIT) is True


def test_what_work_aside_raises_comes_to_who_asked(crew: Crew) -> None:
    def broken() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        taken(crew, aside(broken)).result(WAIT)


def test_one_more_after_all_have_ended(crew: Crew) -> None:
    for number in range(3):
        assert taken(crew, until(_done(number))).result(WAIT) == number


def _done(number: int) -> Future[int]:
    future: Future[int] = Future()
    future.set_result(number)
    return future


def test_fibers_are_on_one_thread() -> None:
    crew, seen = Fibers(4), set()

    def noting(first: Future[None], second: Future[None]) -> Steps[None]:
        seen.add(threading.get_ident())
        first.set_result(None)
        yield from until(second)
        seen.add(threading.get_ident())

    one: Future[None] = Future()
    other: Future[None] = Future()
    ends = [taken(crew, noting(one, other)), taken(crew, noting(other, one))]
    for end in ends:
        end.result(WAIT)
    crew.close()
    assert len(seen) == 1
    assert threading.get_ident() not in seen


def test_who_is_awaited_goes_on_before_any_other_turn() -> None:
    crew, log = Fibers(1), list[str]()
    wanted: list[Future[None]] = []
    begun: list[bool] = []

    def computing() -> Steps[None]:
        begun.append(True)
        while log.count("goes on") < 20:
            log.append("turn")
            if wanted:
                log.append("there")
                wanted.pop().set_result(None)
            yield None

    def asking() -> Steps[None]:
        while len(begun) < 3:
            yield None
        for _ in range(20):
            future: Future[None] = Future()
            wanted.append(future)
            yield from until(future)
            log.append("goes on")

    ends = [taken(crew, steps) for steps in (computing(), computing(), asking(), computing())]
    for end in ends:
        end.result(WAIT)
    crew.close()
    assert [after for before, after in itertools.pairwise(log) if before == "there"] == ["goes on"] * 20


async def test_a_long_text_is_encoded_aside(tiny_model: Model) -> None:
    engine = Engine(ArrayRunner(tiny_model.transformer))
    request = GenerationRequest(Prompt("", 0, add_bos=False), 1)
    host = HostFunctionsV2(tiny_model, engine, request, Generation(WAIT), GuestLimits())
    for text, aside_ in (("hello", False), ("hello" * 1000, True)):
        out = np.zeros(len(text), np.uint32)
        answer = host.realm_encode(1, text, 0, out)
        assert isinstance(answer, int) != aside_
        assert out[: settled(answer)].tolist() == tiny_model.tokenizer.encode(text, parse_special=False)
    host.close()
    engine.close()


@pytest.mark.parametrize("guests_on", ["auto", "fibers", "threads"])
def test_what_guests_run_on_is_a_choice(tiny_gguf: Path, guests_on: assembly.GuestsOn) -> None:
    with assembly.orchestrator(str(tiny_gguf), "v2", guests_on=guests_on) as (_, orchestrator):
        expected = Fibers if guests_on != "threads" and fibers_work() else Threads
        assert isinstance(orchestrator._crew, expected)


def test_where_there_are_no_fibers(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "fibers_work", lambda: False)
    with assembly.orchestrator(str(tiny_gguf), "v2") as (_, orchestrator):
        assert isinstance(orchestrator._crew, Threads)
    with (
        pytest.raises(assembly.AssemblyError, match="--guests-on fibers"),
        assembly.orchestrator(str(tiny_gguf), "v2", guests_on="fibers"),
    ):
        pass


# ------------------------------------------------------------------- whole guests on the one thread of one


@pytest.fixture
async def mixed(with_fibers: None, tiny_model: Model, tmp_path: Path) -> AsyncIterator[Orchestrator]:
    """The shipped guest for all, but for the tenant `spins`, whose guest computes without end."""
    (tmp_path / "spins.wasm").write_bytes(bytes(wasmtime.wat2wasm(SPINNING)))
    engine, runtime = Engine(ArrayRunner(tiny_model.transformer)), Runtime(fibers=True)
    module = runtime.compile(guest_bytes("v2"))
    orchestrator = Orchestrator(tiny_model, engine, runtime, module, limits=GuestLimits(guest_seconds=1))
    orchestrator.use_guests({"spins": tmp_path / "spins.wasm"})
    yield orchestrator
    await orchestrator.close(0)
    assert engine.open_sessions == 0
    engine.close()


def asked(orchestrator: Orchestrator, tenant: str = "") -> GenerationRequest:
    prompt = orchestrator.prepare("hello", tenant)
    return GenerationRequest(prompt, 24, temperature=0.9, seed=11, tenant=tenant)


async def end_of(generation: Generation) -> Event:
    async with asyncio.timeout(WAIT):
        return [event async for event in generation][-1]


async def test_guests_that_compute_without_end_do_not_hold_up_the_others(mixed: Orchestrator) -> None:
    spinning = [mixed.submit(asked(mixed, "spins")) for _ in range(3)]
    while mixed.sandboxes < 3:
        await asyncio.sleep(0.001)
    healthy = [mixed.submit(asked(mixed)) for _ in range(3)]
    ends = [await end_of(generation) for generation in healthy]
    assert all(isinstance(end, Finished) and end.completion_tokens == 24 for end in ends)
    for generation in spinning:
        end = await end_of(generation)
        assert isinstance(end, Failed)
        assert end.kind is FailureKind.GUEST_FAULT


async def test_many_that_wait_are_cancelled(mixed: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is in a step when all are cancelled; every one ends, and the next request is served."""
    inside, go_on = threading.Event(), threading.Event()
    runner = mixed._runner.engine._runner
    step: Callable[..., object] = runner.step

    def held(chunks: object) -> object:
        inside.set()
        go_on.wait(WAIT)
        return step(chunks)

    monkeypatch.setattr(runner, "step", held)
    generations = [mixed.submit(asked(mixed)) for _ in range(8)]
    assert await asyncio.to_thread(inside.wait, WAIT)
    for generation in generations:
        generation.cancel()
    go_on.set()
    for generation in generations:
        end = await end_of(generation)
        assert isinstance(end, Finished)
        assert end.reason.value == "cancelled"
    assert isinstance(await end_of(mixed.submit(asked(mixed))), Finished)
