"""Pages: shared beginnings, copies on the first write, eviction, preemption; and who is in a step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from realm_abi.errors import AbiError, ErrorCode
from realm_reference.bench.token_runner import TokenRunner, logits_of
from realm_reference.engine import Engine, Session
from realm_reference.engine.adapters import LoadedAdapter
from realm_reference.model.adapters import Adapter
from realm_reference.model.runner import PAGE, Chunk

CONTEXT = 8 * PAGE
PAGE_BYTES = TokenRunner.page_bytes


def prompt(length: int, seed: int = 0) -> NDArray[np.uint32]:
    return np.random.default_rng(seed).integers(0, 8, length).astype(np.uint32)


class Steps:
    """Writes down the chunks of each step, as (position, length); while `gate` is shut, steps wait."""

    def __init__(self) -> None:
        self.taken: list[list[tuple[int, int]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def shut(self) -> None:
        """The next step waits."""
        self.gate.clear()
        while self.entered.acquire(blocking=False):
            pass

    def __call__(self, chunks: Sequence[Chunk]) -> None:
        self.taken.append([(chunk.position, len(chunk.ids)) for chunk in chunks])
        self.entered.release()
        assert self.gate.wait(30)


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def make_engine(steps: Steps) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(**settings: Any) -> Engine:
        engines.append(Engine(TokenRunner(CONTEXT, before_step=steps), **{"pages": 16, **settings}))
        return engines[-1]

    yield make
    steps.gate.set()
    for engine in engines:
        engine.close()


def answer(session: Session, ids: NDArray[np.uint32], before: Sequence[int] = ()) -> None:
    """Forward, and compare with the tokens alone."""
    assert np.array_equal(session.forward(ids), logits_of([*before, *ids.tolist()]))


def test_a_second_request_with_the_same_beginning_computes_the_rest_only(
    make_engine: Callable[..., Engine], steps: Steps
) -> None:
    engine = make_engine()
    answer(engine.open("a"), prompt(40))
    answer(engine.open("a"), prompt(45))
    assert steps.taken == [[(0, 40)], [(32, 13)]]
    assert engine.counters.prefix_hit_tokens == 32
    assert engine.cache_use().bytes == 4 * PAGE_BYTES, "two pages are shared, each has one of its own"


def test_pages_are_found_after_their_sequence_has_gone(
    make_engine: Callable[..., Engine], steps: Steps
) -> None:
    engine = make_engine()
    first = engine.open("a")
    answer(first, prompt(40))
    first.free()
    assert engine.cache_use().bytes == 0
    answer(engine.open("a"), prompt(40))
    assert steps.taken[1] == [(32, 8)]


@pytest.mark.parametrize(
    "other", [{"owner": "b"}, {"owner": "a", "adapter": LoadedAdapter(Adapter("x", (), "x"), 1)}]
)
def test_nobody_finds_the_pages_of_another_tenant_or_adapter(
    make_engine: Callable[..., Engine], steps: Steps, other: dict[str, Any]
) -> None:
    engine = make_engine()
    answer(engine.open("a"), prompt(40))
    engine.open(**other).forward(prompt(40))
    assert steps.taken[1] == [(0, 40)]


def test_positions_whose_logits_are_wanted_are_computed(
    make_engine: Callable[..., Engine], steps: Steps
) -> None:
    engine = make_engine()
    engine.open().forward(prompt(40))
    wanted = engine.open().forward(prompt(40), 20)
    assert np.array_equal(wanted, logits_of(prompt(40).tolist(), 20))
    assert steps.taken[1] == [(16, 24)]


def test_a_fork_takes_no_page_until_it_writes(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine()
    session = engine.open()
    answer(session, prompt(40))
    twins = [session.fork() for _ in range(4)]
    assert engine.cache_use().bytes == 3 * PAGE_BYTES
    for number, twin in enumerate(twins):
        answer(twin, prompt(5, number), prompt(40).tolist())
    assert engine.cache_use().bytes == (3 + 4) * PAGE_BYTES
    answer(session, prompt(5, 9), prompt(40).tolist())


def test_what_is_idle_for_longest_is_overwritten_first(
    make_engine: Callable[..., Engine], steps: Steps
) -> None:
    engine = make_engine(pages=8)
    for seed in range(3):
        session = engine.open()
        session.forward(
            prompt(40, seed)
        )  # two named pages each; the third, which is not full, is empty again
        session.free()
    engine.open().forward(prompt(4 * PAGE, 7))
    for seed in (2, 1, 0):
        engine.open().forward(prompt(40, seed))
    begins = [begin for ((begin, _),) in steps.taken[4:]]
    assert begins[0] == 32
    assert begins[-1] == 0


def test_the_youngest_loses_its_pages_and_computes_them_again(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(pages=9)
    old, young = engine.open(), engine.open()
    answer(old, prompt(60, 1))
    answer(young, prompt(70, 2))
    assert engine.counters.preemptions == 0
    answer(old, prompt(20, 3), prompt(60, 1).tolist())
    assert engine.counters.preemptions == 1
    assert young.length == 70
    answer(young, prompt(1, 4), prompt(70, 2).tolist())
    answer(old, prompt(1, 5), [*prompt(60, 1).tolist(), *prompt(20, 3).tolist()])


def test_sequences_that_need_more_pages_than_there_are_all_come_to_their_end(
    make_engine: Callable[..., Engine],
) -> None:
    engine = make_engine(pages=8, prefill_chunk=16, step_rows=32, batch=4)
    sessions = [engine.open(str(number % 3)) for number in range(6)]
    tokens = [prompt(30 + number, number).tolist() for number in range(6)]
    for session, ids in zip(sessions, tokens, strict=True):
        answer(session, np.array(ids, np.uint32))
    for _ in range(40):
        futures = [session.start_forward(prompt(1, 3)) for session in sessions]
        for future, ids in zip(futures, tokens, strict=True):
            ids += prompt(1, 3).tolist()
            assert np.array_equal(future.result(30), logits_of(ids))
    assert engine.counters.preemptions > 0


def test_layers_of_a_guest_keep_their_pages(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(pages=8)
    layered, session = engine.open_layers(), engine.open()
    answer(session, prompt(60))
    hidden = np.zeros((70, 1), np.float32)
    layered.layer(0, hidden, 0)  # five of eight pages: those of the session go
    assert engine.counters.preemptions == 1
    second = engine.open_layers()
    with pytest.raises(AbiError) as caught:
        second.layer(0, hidden, 0)
    assert caught.value.code is ErrorCode.out_of_memory
    waiting = session.start_forward(prompt(1))  # five pages, and three are left: it waits
    layered.free()
    assert np.array_equal(waiting.result(30), logits_of([*prompt(60).tolist(), *prompt(1).tolist()]))


def test_prompts_go_in_chunks_beside_the_tokens_of_others(
    make_engine: Callable[..., Engine], steps: Steps
) -> None:
    engine = make_engine(prefill_chunk=32, step_rows=32, pages=24)
    decoding = [engine.open() for _ in range(3)]
    for number, session in enumerate(decoding):
        session.forward(prompt(5, number))
    steps.shut()
    running = decoding[0].start_forward(prompt(1))
    assert steps.entered.acquire(timeout=30)
    prefill = engine.open().start_forward(prompt(70, 9))
    others = [session.start_forward(prompt(1)) for session in decoding[1:]]
    steps.gate.set()
    for future in (running, prefill, *others):
        future.result(30)
    assert sorted(steps.taken[4]) == [(0, 32), (5, 1), (5, 1)]
    assert steps.taken[5:] == [[(32, 32)], [(64, 6)]]


def test_who_had_a_token_from_the_last_step_is_waited_for(
    make_engine: Callable[..., Engine], steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    sessions = [engine.open() for _ in range(3)]
    steps.shut()
    first = sessions[0].start_forward(prompt(1))
    assert steps.entered.acquire(timeout=30)
    others = [session.start_forward(prompt(2)) for session in sessions[1:]]
    monkeypatch.setattr("realm_reference.engine.loop.PATIENCE", 1e9)
    steps.gate.set()
    first.result(30)
    sessions[0].free()  # or else it is waited for
    for future in others:
        future.result(30)
    assert len(steps.taken) == 2
    waiting = sessions[1].start_forward(prompt(1))
    assert engine.responds(30)
    assert len(steps.taken) == 2, "the third may be about to ask"
    together = sessions[2].start_forward(prompt(1))
    waiting.result(30)
    together.result(30)
    assert steps.taken[2] == [(2, 1), (2, 1)]
    alone = sessions[1].start_forward(prompt(1))
    sessions[2].free()
    alone.result(30)
    assert steps.taken[3] == [(3, 1)]


def test_a_full_batch_is_shared_by_owners(make_engine: Callable[..., Engine], steps: Steps) -> None:
    """Four places, sixteen decodes of one owner and two of another: both of these have a place."""
    engine = make_engine(batch=4, pages=32)
    flood = [engine.open("flood") for _ in range(16)]
    light = [engine.open("light") for _ in range(2)]
    for number, session in enumerate([*flood, *light]):
        session.forward(prompt(3 if number < 16 else 7, number))
    steps.shut()
    calls = [flood[0].start_forward(prompt(1))]
    assert steps.entered.acquire(timeout=30)
    calls += [session.start_forward(prompt(1)) for session in [*flood[1:], *light]]
    steps.gate.set()
    for call in calls:
        call.result(30)
    assert steps.taken[19].count((7, 1)) == 2


def test_a_step_that_fails_harms_the_sequence_at_fault_alone(
    make_engine: Callable[..., Engine], steps: Steps
) -> None:
    def fail(chunks: Sequence[Chunk]) -> None:
        steps(chunks)
        if any(7 in chunk.ids for chunk in chunks):
            raise RuntimeError("a bug in the model")

    with closing(Engine(TokenRunner(CONTEXT, before_step=fail), pages=16)) as engine:
        sessions = [engine.open() for _ in range(4)]
        steps.shut()
        first = sessions[0].start_forward(np.array([1], np.uint32))
        assert steps.entered.acquire(timeout=30)
        calls = [
            session.start_forward(np.array([token], np.uint32))
            for session, token in zip(sessions[1:], (2, 7, 3), strict=True)
        ]
        steps.gate.set()
        first.result(30)
        assert np.array_equal(calls[0].result(30), logits_of([2]))
        assert np.array_equal(calls[2].result(30), logits_of([3]))
        error = calls[1].exception(30)
        assert isinstance(error, AbiError)
        assert error.code is ErrorCode.internal
        assert [session.length for session in sessions] == [1, 1, 0, 1]


@pytest.mark.parametrize(("pages", "there"), [(12, 12), (0, 8), (10_000, 64 * 8)])
def test_the_cache_holds_what_it_may_but_one_context_at_least(
    make_engine: Callable[..., Engine], pages: int, there: int
) -> None:
    engine = make_engine(pages=None, cache_bytes=pages * PAGE_BYTES)
    engine.open().forward(prompt(1))
    assert engine.cache_use().share == 1 / there


def test_fewer_pages_than_a_context_are_refused() -> None:
    with pytest.raises(ValueError, match="7 pages"):
        Engine(TokenRunner(CONTEXT), pages=7)
