"""The engine: sessions, the step loop, fairness, cancellation, failures that stay where they happen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from realm_abi.errors import AbiError, ErrorCode
from realm_reference.engine import CacheUse, Engine, LayerSession, Session, StepRecord
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model
from realm_reference.model.transformer import Transformer


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, np.uint32)


def prompt(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, 200, length).astype(np.uint32)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.001)


@pytest.fixture
def engine(tiny_model: Model) -> Iterator[Engine]:
    engine = Engine(ArrayRunner(tiny_model.transformer))
    yield engine
    engine.close()


@pytest.fixture
def session(engine: Engine) -> Session:
    return engine.open()


class Gate:
    """Stands in for a slow model: every step waits until the test lets it through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered = threading.Semaphore(0)
        self.released = threading.Semaphore(0)
        original = Transformer.forward

        def forward(*args: object, **kwargs: object) -> object:
            self.entered.release()
            assert self.released.acquire(timeout=30)
            return original(*args, **kwargs)

        monkeypatch.setattr(Transformer, "forward", forward)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def test_forward_gives_the_models_own_logits(session: Session, tiny_model: Model) -> None:
    tokens = prompt(20)
    expected = tiny_model.transformer.forward(tokens, tiny_model.transformer.new_cache(), 20)
    assert np.array_equal(session.forward(tokens, 20), expected)
    assert session.length == 20


@pytest.mark.parametrize("rows", [0, 1, 5, 70, 150])
def test_a_long_prompt_goes_in_chunks_and_gives_the_rows_asked_for(tiny_model: Model, rows: int) -> None:
    steps: list[StepRecord] = []
    engine = Engine(ArrayRunner(tiny_model.transformer), prefill_chunk=32, on_step=steps.append)
    try:
        got = engine.open().forward(prompt(150), rows)
    finally:
        engine.close()
    whole = tiny_model.transformer.forward(prompt(150), tiny_model.transformer.new_cache(), 150)
    assert got.shape == (rows, tiny_model.transformer.vocab_size)
    np.testing.assert_allclose(got, whole[150 - rows :], atol=1e-4)
    assert [step.rows for step in steps] == [32, 32, 32, 32, 22]


def test_truncate_and_replay_gives_the_same_bits(session: Session) -> None:
    session.forward(prompt(30), 1)
    first = session.forward(ids(7), 1)
    session.truncate(30)
    assert np.array_equal(session.forward(ids(7), 1), first)


def test_a_fork_goes_its_own_way(engine: Engine, session: Session) -> None:
    session.forward(prompt(30), 1)
    twin = session.fork()
    assert engine.open_sessions == 2
    session.forward(ids(5, 6, 7), 1)
    assert (session.length, twin.length) == (33, 30)
    session.truncate(30)
    assert np.array_equal(twin.forward(ids(9), 1), session.forward(ids(9), 1))


def test_v1_layer_by_layer_equals_forward(engine: Engine, tiny_model: Model) -> None:
    tokens = prompt(12)
    whole, layered = engine.open(), engine.open_layers()
    hidden = layered.embed(tokens)
    for index in range(tiny_model.config.n_layers):
        hidden = layered.layer(index, hidden, 0)
    assert np.array_equal(layered.logits(hidden[-1:]), whole.forward(tokens, 1))


def test_v1_position_is_honoured(engine: Engine) -> None:
    session = engine.open_layers()
    hidden = session.embed(prompt(4))
    first = session.layer(0, hidden, 0)
    session.layer(0, hidden, 4)
    assert np.array_equal(session.layer(0, hidden, 0), first), "position 0 again is the beginning again"
    with pytest.raises(AbiError) as caught:
        session.layer(0, hidden, 9)
    assert caught.value.code is ErrorCode.invalid_argument


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda s, m: s.forward(ids(m.transformer.vocab_size), 1), ErrorCode.invalid_argument),
        (lambda s, m: s.forward(ids(0xFFFFFFFF), 1), ErrorCode.invalid_argument),
        (lambda s, m: s.forward(ids(1), 2), ErrorCode.invalid_argument),
        (lambda s, m: s.forward(ids(1), -1), ErrorCode.invalid_argument),
        (lambda s, m: s.forward(prompt(m.context_length + 1), 1), ErrorCode.context_full),
        (lambda s, m: s.truncate(11), ErrorCode.invalid_argument),
        (lambda s, m: s.truncate(-1), ErrorCode.invalid_argument),
    ],
)
def test_a_refused_call_changes_nothing(
    session: Session, tiny_model: Model, call: Callable[[Session, Model], object], code: ErrorCode
) -> None:
    session.forward(prompt(10), 1)
    with pytest.raises(AbiError) as caught:
        call(session, tiny_model)
    assert caught.value.code is code
    assert session.length == 10


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda s, m: s.embed(ids(m.transformer.vocab_size)), ErrorCode.invalid_argument),
        (lambda s, m: s.embed(ids()), ErrorCode.invalid_argument),
        (lambda s, m: s.layer(99, s.embed(ids(1)), 0), ErrorCode.invalid_argument),
        (lambda s, m: s.layer(0, s.embed(ids(1)), 2), ErrorCode.invalid_argument),
        (lambda s, m: s.layer(0, s.embed(ids(1)), -1), ErrorCode.invalid_argument),
        (lambda s, m: s.layer(0, s.embed(ids(1)), m.context_length), ErrorCode.context_full),
    ],
)
def test_a_refused_call_of_v1_changes_nothing(
    engine: Engine, tiny_model: Model, call: Callable[[LayerSession, Model], object], code: ErrorCode
) -> None:
    session = engine.open_layers()
    hidden = session.embed(ids(5))
    for index in range(tiny_model.config.n_layers):
        hidden = session.layer(index, hidden, 0)
    with pytest.raises(AbiError) as caught:
        call(session, tiny_model)
    assert caught.value.code is code
    assert session.length == 1


def test_the_context_can_be_filled_to_the_last_token(session: Session, tiny_model: Model) -> None:
    session.forward(prompt(tiny_model.context_length), 1)
    with pytest.raises(AbiError) as caught:
        session.forward(ids(1), 1)
    assert caught.value.code is ErrorCode.context_full


def test_a_freed_session_is_an_invalid_handle(engine: Engine, session: Session) -> None:
    session.free()
    assert engine.open_sessions == 0
    for call in (lambda: session.forward(ids(1), 1), session.free, session.fork):
        with pytest.raises(AbiError) as caught:
            call()
        assert caught.value.code is ErrorCode.invalid_handle


def test_a_failing_step_harms_its_own_session_only(
    engine: Engine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbour = engine.open()
    session.forward(prompt(10), 1)
    expected = neighbour.forward(prompt(10, 1), 1)
    with monkeypatch.context() as patch:
        patch.setattr(Transformer, "layer", _explode)
        with pytest.raises(AbiError) as caught:
            session.forward(ids(1, 2), 1)
    assert caught.value.code is ErrorCode.internal
    assert engine.counters.failed_steps == 1
    neighbour.truncate(0)
    assert np.array_equal(neighbour.forward(prompt(10, 1), 1), expected)
    assert session.length == 10
    session.forward(ids(1), 1)


def _explode(*args: object) -> None:
    raise RuntimeError("a bug in the model")


def test_cancel_wakes_a_session_that_waits_in_the_queue(engine: Engine, gate: Gate) -> None:
    running, waiting = engine.open(), engine.open()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(running.forward, ids(1), 1)
        assert gate.entered.acquire(timeout=10)
        second = pool.submit(waiting.forward, ids(1), 1)
        wait_until(lambda: engine.waiting == 1)
        waiting.cancel()
        with pytest.raises(AbiError) as caught:
            second.result(timeout=10)  # the first step has not ended yet
        assert caught.value.code is ErrorCode.cancelled
        assert not first.done()
        gate.released.release()
        assert first.result(timeout=10).shape[0] == 1
    with pytest.raises(AbiError):
        waiting.forward(ids(1), 1)


def test_cancel_in_a_long_prefill_ends_it_after_the_step_that_runs(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ArrayRunner(tiny_model.transformer), prefill_chunk=8)
    gate = Gate(monkeypatch)
    session = engine.open()
    try:
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(session.forward, prompt(400), 1)
            assert gate.entered.acquire(timeout=10)
            session.cancel()
            gate.released.release()
            with pytest.raises(AbiError) as caught:
                call.result(timeout=10)
        assert caught.value.code is ErrorCode.cancelled
        assert engine.counters.rows == 8
        assert session.length == 0
    finally:
        engine.close()


def test_a_short_request_does_not_wait_for_a_long_prefill(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ArrayRunner(tiny_model.transformer), prefill_chunk=8)
    gate = Gate(monkeypatch)
    long, short = engine.open(), engine.open()
    try:
        with ThreadPoolExecutor(2) as pool:
            prefill = pool.submit(long.forward, prompt(80), 1)
            assert gate.entered.acquire(timeout=10)
            decode = pool.submit(short.forward, ids(1), 1)
            wait_until(lambda: engine.waiting == 1)
            gate.released.release(2)  # the chunk that runs, and the next in line
            assert decode.result(timeout=10).shape[0] == 1
            assert not prefill.done()
            gate.released.release(100)
            prefill.result(timeout=10)
    finally:
        engine.close()


def test_closing_fails_what_waits_and_stops_the_thread(engine: Engine, gate: Gate) -> None:
    running, waiting = engine.open(), engine.open()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(running.forward, ids(1), 1)
        assert gate.entered.acquire(timeout=10)
        second = pool.submit(waiting.forward, ids(1), 1)
        wait_until(lambda: engine.waiting == 1)
        closing = pool.submit(engine.close)
        wait_until(lambda: not engine.alive)
        gate.released.release()
        closing.result(timeout=10)
        first.result(timeout=10)
        with pytest.raises(AbiError) as caught:
            second.result(timeout=10)
    assert caught.value.code is ErrorCode.internal
    with pytest.raises(AbiError):
        running.forward(ids(1), 1)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 90), min_size=2, max_size=5),
    decodes=st.integers(1, 6),
)
def test_neighbours_never_change_bits(engine: Engine, lengths: list[int], decodes: int) -> None:
    """Greedy runs at the same time give the very logits of the same runs one after the other."""

    def greedy(index: int) -> list[np.ndarray]:
        session = engine.open()
        rows = [session.forward(prompt(lengths[index], index), 1)]
        for _ in range(decodes):
            rows.append(session.forward(ids(int(rows[-1].argmax())), 1))
        session.free()
        return rows

    alone = [greedy(index) for index in range(len(lengths))]
    with ThreadPoolExecutor(len(lengths)) as pool:
        together = list(pool.map(greedy, range(len(lengths))))
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert engine.open_sessions == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.finfo(np.float32).max, 1e-45])
def test_hidden_states_may_be_any_numbers(engine: Engine, tiny_model: Model, value: float) -> None:
    session = engine.open_layers()
    model = tiny_model.config
    hidden = np.full((2, model.hidden_size), value, np.float32)
    hidden[1, ::2] *= -1
    for index in range(model.n_layers):
        hidden = session.layer(index, hidden, 0)
    assert session.logits(hidden[-1:]).shape == (1, tiny_model.transformer.vocab_size)
    sound = engine.open().forward(prompt(5))
    assert np.isfinite(sound).all()


def test_an_idle_loop_and_a_working_one_respond(engine: Engine, session: Session) -> None:
    assert engine.responds(30)
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(session.forward, prompt(200))
        assert engine.responds(30)
        work.result()


def test_a_loop_that_is_stuck_in_a_step_does_not_respond(
    engine: Engine, session: Session, gate: Gate
) -> None:
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(session.forward, ids(3))
        assert gate.entered.acquire(timeout=30)
        assert not engine.responds(0.05)
        gate.released.release()
        work.result()
    assert engine.responds(30)


def test_a_closed_engine_does_not_respond(tiny_model: Model) -> None:
    engine = Engine(ArrayRunner(tiny_model.transformer))
    engine.close()
    assert not engine.responds(30)


def test_the_use_of_all_caches(engine: Engine, session: Session, tiny_model: Model) -> None:
    assert engine.cache_use() == CacheUse(1, 0, 0, 0.0)
    session.forward(prompt(20))
    twin = session.fork()
    twin.forward(ids(3))
    used = engine.cache_use()
    config = tiny_model.config
    position = 2 * 4 * config.n_layers * config.n_kv_heads * config.head_dim  # keys and values in float32
    assert (used.caches, used.tokens) == (2, 20 + 21)
    assert used.bytes >= 41 * position
    assert used.bytes % position == 0
    twin.free()
    session.free()
    assert engine.cache_use() == CacheUse(0, 0, 0, 0.0)
