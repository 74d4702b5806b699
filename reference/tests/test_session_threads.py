"""Session calls of several guests at once, each on a thread of its own, some of them cancelled on the way.

What a guest is answered has to be, bit for bit, what it is answered alone: turns, batches and the
cancellation of a neighbour must not show.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.steps import settled
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model, load_model
from realm_reference.orchestration.events import Failed
from realm_reference.orchestration.hostcalls import MODEL_HANDLE
from realm_reference.orchestration.hostfunctions_v2 import HostFunctionsV2
from realm_reference.orchestration.limits import GuestLimits
from realm_reference.orchestration.output import Sink
from realm_reference.orchestration.request import GenerationRequest, Prompt

CONTEXT = 12
IDS = st.lists(st.integers(0, 200), min_size=1, max_size=5)
PICK = st.integers(0, 7)
STEP = st.one_of(
    st.tuples(st.just("open"), PICK, st.just([0])),
    st.tuples(st.just("fork"), PICK, st.just([0])),
    st.tuples(st.just("free"), PICK, st.just([0])),
    st.tuples(st.just("truncate"), PICK, st.lists(st.integers(0, CONTEXT), min_size=1, max_size=1)),
    st.tuples(st.just("forward"), PICK, IDS),
    st.tuples(st.just("forward"), PICK, IDS),
)
PLAN = st.lists(STEP, min_size=4, max_size=14)

Step = tuple[str, int, list[int]]
Answer = tuple[int, bytes]
QUICK = settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


@dataclass
class Listener(Sink):
    """Takes no tokens; tells who wants to know of a cancellation."""

    cancelled: bool = False
    wake: list[Callable[[], None]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def cancel(self, cause: Failed | None = None) -> None:
        del cause
        with self.lock:
            self.cancelled, waking = True, list(self.wake)
        for callback in waking:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        with self.lock:
            self.wake.append(callback)
            too_late = self.cancelled
        if too_late:
            callback()


class Guest:
    """Plays a plan on host functions and writes down every answer, with the bits of the logits."""

    def __init__(self, model: Model, engine: Engine) -> None:
        self.sink = Listener()
        request = GenerationRequest(Prompt("", 0, add_bos=False), max_tokens=1)
        self.host = HostFunctionsV2(model, engine, request, self.sink, GuestLimits(sessions=3))
        self._vocab_size = model.transformer.vocab_size
        self._open: list[int] = [self.host.realm_session_open(MODEL_HANDLE)]
        self.log: list[Answer] = []

    def play(self, plan: Sequence[Step]) -> list[Answer]:
        for name, pick, numbers in plan:
            session = self._open[pick % len(self._open)] if self._open else 999
            try:
                self.log.append(self._step(name, session, numbers))
            except AbiError as error:
                self.log.append((int(error.code), b""))
        return self.log

    def _step(self, name: str, session: int, numbers: list[int]) -> Answer:
        if name == "forward":
            logits = np.zeros(len(numbers) * self._vocab_size, np.float32)
            ids = np.asarray(numbers, np.uint32)
            answer = settled(self.host.realm_forward(session, ids, logits, len(numbers)))
            return answer, logits.tobytes()
        if name == "truncate":
            return self.host.realm_session_truncate(session, numbers[0]), b""
        if name == "free":
            answer = self.host.realm_session_free(session)
            self._open.remove(session)
            return answer, b""
        fork = name == "fork"
        self._open.append(
            self.host.realm_session_fork(session) if fork else self.host.realm_session_open(MODEL_HANDLE)
        )
        return 1, b""


@pytest.fixture(scope="module")
def model(make_gguf: Callable[..., Path]) -> Model:
    return load_model(make_gguf({"llama.context_length": CONTEXT}))


def engine_of(model: Model) -> closing[Engine]:
    return closing(Engine(ArrayRunner(model.transformer), prefill_chunk=3))


def alone(model: Model, plan: Sequence[Step]) -> list[Answer]:
    with engine_of(model) as engine:
        guest = Guest(model, engine)
        log = guest.play(plan)
        guest.host.close()
        assert engine.open_sessions == 0
    return log


@QUICK
@given(plans=st.lists(PLAN, min_size=2, max_size=5))
def test_guests_at_once_are_answered_as_each_is_alone(model: Model, plans: list[list[Step]]) -> None:
    with (
        closing(Engine(ArrayRunner(model.transformer), prefill_chunk=3)) as engine,
        ThreadPoolExecutor(len(plans)) as pool,
    ):
        guests = [Guest(model, engine) for _ in plans]
        logs = list(pool.map(Guest.play, guests, plans))
        for guest in guests:
            guest.host.close()
        assert engine.open_sessions == 0
    assert logs == [alone(model, plan) for plan in plans]


@QUICK
@given(plans=st.lists(PLAN, min_size=2, max_size=4), after=st.integers(0, 8))
def test_a_cancelled_guest_ends_and_its_neighbours_do_not_notice(
    model: Model, plans: list[list[Step]], after: int
) -> None:
    with (
        closing(Engine(ArrayRunner(model.transformer), prefill_chunk=3)) as engine,
        ThreadPoolExecutor(len(plans) + 1) as pool,
    ):
        guests = [Guest(model, engine) for _ in plans]

        def cancel() -> None:
            while len(guests[0].log) < min(after, len(plans[0])):
                time.sleep(0)
            guests[0].sink.cancel()

        cancelling = pool.submit(cancel)
        logs = list(pool.map(Guest.play, guests, plans))
        cancelling.result()
        for guest in guests:
            guest.host.close()
        assert engine.open_sessions == 0
    dues = [alone(model, plan) for plan in plans]
    assert logs[1:] == dues[1:]
    check_cancelled(plans[0], logs[0], dues[0])


def check_cancelled(plan: Sequence[Step], log: Sequence[Answer], due: Sequence[Answer]) -> None:
    """Up to the first `cancelled` all is as it would be; from then on no session computes, and all free."""
    codes = [code for code, _ in log]
    end = codes.index(ErrorCode.cancelled) if ErrorCode.cancelled in codes else len(log)
    assert list(log[:end]) == list(due[:end])
    later = {code for (name, _, _), (code, _) in zip(plan[end:], log[end:], strict=True) if name == "forward"}
    assert later <= {ErrorCode.cancelled, ErrorCode.invalid_handle, ErrorCode.context_full}
    freed = [code for (name, _, _), (code, _) in zip(plan, log, strict=True) if name == "free"]
    assert set(freed) <= {0, ErrorCode.invalid_handle}
