"""The engine against a naive cache: any sessions, at once, on few pages, and every answer bit for bit.

Forwards of several sessions are in flight together; prompts share beginnings, so that pages are found; there
are fewer pages than the sessions need, so that they are taken away and computed again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from realm_abi.errors import AbiError, ErrorCode
from realm_reference.bench.token_runner import TokenRunner, logits_of
from realm_reference.engine import Engine, Session
from realm_reference.engine.adapters import LoadedAdapter
from realm_reference.engine.pages import PagePool
from realm_reference.engine.scheduler import Scheduler
from realm_reference.engine.sequence import Sequence as EngineSequence
from realm_reference.model.adapters import Adapter, Factors, Target, projection_shapes
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.compute import Compute
from realm_reference.model.kvcache import KVCache
from realm_reference.model.model import Model, load_model
from realm_reference.model.runner import PAGE, Chunk, Floats, Runner

CONTEXT = 3 * PAGE
OWNERS = ("one", "other")
PICK = st.integers(0, 100)
PROMPTS = np.random.default_rng(5).integers(0, 4, (2, CONTEXT))
STEPS = settings(
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


class Naive(Protocol):
    """One sequence by itself, without any engine."""

    def forward(self, ids: list[int], rows: int) -> Floats:
        """The logits of the last `rows`."""
        ...

    def truncate(self, length: int) -> None:
        """Forget the rest."""
        ...

    def fork(self) -> Naive:
        """A copy."""
        ...


class NaiveTokens:
    """Of the TokenRunner: a list."""

    def __init__(self, adapter: int, tokens: Sequence[int] = ()) -> None:
        self._adapter, self._tokens = adapter, list(tokens)

    def forward(self, ids: list[int], rows: int) -> Floats:
        self._tokens += ids
        return logits_of(self._tokens, rows, self._adapter)

    def truncate(self, length: int) -> None:
        del self._tokens[length:]

    def fork(self) -> NaiveTokens:
        return NaiveTokens(self._adapter, self._tokens)


class NaiveCache:
    """Of a transformer: its own cache, filled in the chunks that the engine promises to cut."""

    def __init__(self, model: Model, chunk: int, cache: KVCache | None = None) -> None:
        self._model, self._chunk = model, chunk
        self._cache = model.transformer.new_cache() if cache is None else cache

    def forward(self, ids: list[int], rows: int) -> Floats:
        logits, left = [], len(ids)
        for begin in range(0, len(ids), self._chunk):
            part = ids[begin : begin + self._chunk]
            left -= len(part)
            wanted = min(max(rows - left, 0), len(part))
            logits.append(self._model.transformer.forward(part, self._cache, wanted))
        return np.concatenate(logits)

    def truncate(self, length: int) -> None:
        self._cache.truncate(length)

    def fork(self) -> NaiveCache:
        return NaiveCache(self._model, self._chunk, self._cache.copy())


class NaiveStep:
    """Of a batch-invariant runner: another one, which runs all tokens in one step, on pages of its own."""

    def __init__(self, runner: Runner, adapter: int, tokens: Sequence[int] = ()) -> None:
        self._runner, self._adapter, self._tokens = runner, adapter, list(tokens)

    def forward(self, ids: list[int], rows: int) -> Floats:
        self._tokens += ids
        pages = np.arange(CONTEXT // PAGE, dtype=np.int32)
        chunk = Chunk(np.array(self._tokens, np.int32), 0, pages, rows, self._adapter)
        return self._runner.step([chunk]).copy()

    def truncate(self, length: int) -> None:
        del self._tokens[length:]

    def fork(self) -> NaiveStep:
        return NaiveStep(self._runner, self._adapter, self._tokens)


class Side:
    """What is under test, and its truth, made of an adapter and the longest chunk; `adapters` slots;
    `any_cut`: sequences may be cut back inside a chunk.
    """

    def __init__(
        self, runner: Runner, naive: Callable[[int, int], Naive], *, adapters: int, any_cut: bool
    ) -> None:
        self.runner = runner
        self.naive = naive
        self.adapters = adapters
        self.any_cut = any_cut


def adapter_in(slot: int) -> LoadedAdapter | None:
    """An adapter without any weights, as if it were loaded there; in the slot of the model itself none."""
    return LoadedAdapter(Adapter(f"in {slot}", (), str(slot)), slot) if slot else None


class Held:
    """A session, its truth, its tokens, and the ends of the chunks it went through."""

    def __init__(self, session: Session, naive: Naive, tokens: list[int], cuts: list[int]) -> None:
        self.session, self.naive, self.tokens, self.cuts = session, naive, tokens, cuts


class Machine(RuleBasedStateMachine):
    """Calls on an engine, and on the truth beside it."""

    side: Callable[[], Side]

    @initialize(
        pages=st.integers(CONTEXT // PAGE + 1, 9),
        chunk=st.sampled_from([3, 8, 16, 64]),
        rows=st.sampled_from([4, 16, 64]),
        batch=st.integers(1, 5),
    )
    def start(self, pages: int, chunk: int, rows: int, batch: int) -> None:
        self.under_test, self.chunk = type(self).side(), chunk
        self.engine = Engine(
            self.under_test.runner, prefill_chunk=chunk, step_rows=rows, batch=batch, pages=pages
        )
        self.held: list[Held] = []
        for owner in (*OWNERS, OWNERS[0]):
            self.open(owner, 0)

    def pick(self, number: int) -> Held | None:
        return self.held[number % len(self.held)] if self.held else None

    @rule(owner=st.sampled_from(OWNERS), adapter=st.integers(0, 1))
    def open(self, owner: str, adapter: int) -> None:
        if len(self.held) < 6:
            slot = adapter % self.under_test.adapters
            session = self.engine.open(owner, adapter=adapter_in(slot))
            self.held.append(Held(session, self.under_test.naive(slot, self.chunk), [], []))

    @rule(number=PICK)
    def fork(self, number: int) -> None:
        held = self.pick(number)
        if held and len(self.held) < 6:
            twin = Held(held.session.fork(), held.naive.fork(), list(held.tokens), list(held.cuts))
            self.held.append(twin)

    @rule(number=PICK, length=st.integers(0, CONTEXT))
    def truncate(self, number: int, length: int) -> None:
        held = self.pick(number)
        if held is None:
            return
        length %= len(held.tokens) + 1
        if not self.under_test.any_cut:
            length = max([cut for cut in held.cuts if cut <= length], default=0)
        held.session.truncate(length)
        held.naive.truncate(length)
        del held.tokens[length:]
        held.cuts = [cut for cut in held.cuts if cut <= length]
        assert held.session.length == length

    @rule(number=PICK)
    def free(self, number: int) -> None:
        held = self.pick(number)
        if held and len(self.held) > 1:
            held.session.free()
            self.held.remove(held)

    @rule(
        calls=st.lists(
            st.tuples(PICK, st.integers(1, CONTEXT), st.integers(0, 5), st.integers(0, 1)),
            min_size=1,
            max_size=5,
        )
    )
    def forward_together(self, calls: list[tuple[int, int, int, int]]) -> None:
        started: dict[int, tuple[Held, list[int], int, Future[Floats]]] = {}
        for number, count, rows, which in calls:
            held = self.pick(number)
            if held is None or id(held) in started or len(held.tokens) == CONTEXT:
                continue
            ids = PROMPTS[which, len(held.tokens) : len(held.tokens) + count].tolist()
            rows = min(rows, len(ids))
            future = held.session.start_forward(np.array(ids, np.uint32), rows)
            started[id(held)] = held, ids, rows, future
        for held, ids, rows, future in started.values():
            self.answered(held, ids, future.result(120), held.naive.forward(ids, rows))

    @rule(which=st.integers(0, 1), tokens=st.integers(1, 8))
    def decode_together(self, which: int, tokens: int) -> None:
        for _ in range(tokens):
            self.forward_together([(number, 1, 1, (which + number) % 2) for number in range(len(self.held))])

    @rule(number=PICK, tokens=st.integers(1, 4))
    def fork_and_part(self, number: int, tokens: int) -> None:
        self.fork(number)
        self.decode_together(0, tokens)

    def answered(self, held: Held, ids: list[int], answer: Floats, due: Floats) -> None:
        begin = len(held.tokens)
        held.tokens += ids
        held.cuts += [*range(begin + self.chunk, len(held.tokens), self.chunk), len(held.tokens)]
        assert np.array_equal(answer, due)

    @rule(number=PICK, count=st.integers(1, CONTEXT))
    def cancel(self, number: int, count: int) -> None:
        held = self.pick(number)
        if held is None or len(held.tokens) + count > CONTEXT:
            return
        ids = PROMPTS[0, :count].tolist()
        future = held.session.start_forward(np.array(ids, np.uint32), 1)
        held.session.cancel()
        error = future.exception(120)
        if error is None:
            self.answered(held, ids, future.result(), held.naive.forward(ids, 1))
        else:
            assert isinstance(error, AbiError)
            assert error.code is ErrorCode.cancelled
            assert held.session.length == len(held.tokens)
        held.session.free()
        self.held.remove(held)

    @invariant()
    def every_page_is_accounted_for(self) -> None:
        if not hasattr(self, "engine"):
            return
        with self.engine._loop.scheduling() as scheduler:
            check_pages(scheduler)

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        for held in self.held:
            held.session.free()
        assert self.engine.cache_use().bytes == 0
        assert self.engine.open_sessions == 0
        self.engine.close()


def check_pages(scheduler: Scheduler) -> None:
    """Each page is held, idle or empty, and as often held as sequences say."""
    pool: PagePool = scheduler.pool
    holders = Counter(page for sequence in scheduler.sequences.values() for page in sequence.pages)
    assert [holders[page] for page in range(pool.total)] == pool._holders
    states = [*holders, *pool._idle, *pool._empty]
    assert sorted(states) == list(range(pool.total))
    assert pool._named == {name: page for page, name in pool._names.items()}
    assert set(pool._idle) <= set(pool._names)
    assert not set(pool._empty) & set(pool._names)
    sequence: EngineSequence
    for sequence in scheduler.sequences.values():
        assert sequence.computed <= len(sequence.tokens)
        assert len(sequence.pages) * PAGE >= sequence.computed


def play(side: Callable[[], Side], examples: int = 60) -> None:
    """Runs the machine on a side."""
    machine: Any = type("Played", (Machine,), {"side": staticmethod(side)})
    run_state_machine_as_test(machine, settings=settings(STEPS, max_examples=examples))


def tokens_side() -> Side:
    return Side(TokenRunner(CONTEXT), lambda adapter, _: NaiveTokens(adapter), adapters=2, any_cut=True)


def test_any_sessions_on_few_pages_get_what_their_tokens_alone_get() -> None:
    play(tokens_side)


def test_the_plain_runner_gives_the_bits_of_the_same_cuts(make_gguf: Callable[..., Path]) -> None:
    model = load_model(make_gguf({"llama.context_length": CONTEXT}))

    def naive(adapter: int, chunk: int) -> NaiveCache:
        del adapter
        return NaiveCache(model, chunk)

    play(lambda: Side(ArrayRunner(model.transformer), naive, adapters=1, any_cut=False), examples=12)


@pytest.mark.parametrize("precision", ["exact", "int8"])
def test_the_compiled_runner_gives_the_same_bits_whatever_happens(
    make_gguf: Callable[..., Path], precision: Literal["exact", "int8"]
) -> None:
    """Batches, chunks, threads, pages found, taken and computed again, adapters: against one thread that runs
    all tokens of a sequence at once.
    """
    model = load_model(make_gguf({"llama.context_length": CONTEXT}), Compute("jit", precision, 1))
    adapter = random_adapter(model)
    alone = model.runner()
    alone.reserve(CONTEXT // PAGE)
    alone.load_adapter(1, adapter)
    NaiveStep(alone, 0).forward([1], 1)  # what has to be compiled is, before anything waits with a limit
    runners = [alone]  # they end with the test: to end a team of threads is compiled code as well

    def side() -> Side:
        threads = 1 + len(runners) % 3
        runner = replace(model, compute=Compute("jit", precision, threads)).runner()
        runners.append(runner)
        runner.load_adapter(1, adapter)
        return Side(runner, lambda slot, _: NaiveStep(alone, slot), adapters=2, any_cut=True)

    play(side, examples=12)


def random_adapter(model: Model) -> Adapter:
    """Of rank 4, on all projections."""
    draw = np.random.default_rng(3)
    shapes = projection_shapes(model.config)

    def layer() -> dict[Target, Factors]:
        return {
            target: Factors(
                draw.standard_normal((4, inputs)).astype(np.float32),
                draw.standard_normal((outputs, 4)).astype(np.float32) / 8,
            )
            for target, (outputs, inputs) in shapes.items()
        }

    return Adapter("random", tuple(layer() for _ in range(model.config.n_layers)), "random")


@pytest.mark.parametrize(
    ("owner", "method", "wrong"),
    [
        (PagePool, "shared", lambda self, page: False),  # writes where others read
        (PagePool, "forget", lambda self, page: None),  # finds what is there no more
        (EngineSequence, "_name", lambda self, index: b"%d" % index),  # finds any page
        (EngineSequence, "replace_written", lambda self, pool: (0, 0)),  # copies nothing
        (Scheduler, "close", lambda self, sequence: self.sequences.pop(sequence.number)),  # keeps the pages
    ],
)
def test_a_wrong_engine_is_found_out(
    monkeypatch: pytest.MonkeyPatch, owner: type, method: str, wrong: Callable[..., Any]
) -> None:
    monkeypatch.setattr(owner, method, wrong)
    with pytest.raises((AssertionError, ExceptionGroup)):
        play(tokens_side)
