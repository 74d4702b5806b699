"""The session functions of two hosts against a model of the contract: any calls, from several guests at once.

The model is a few lists of tokens and the order of checks as the contract states it. After every call the
answer, the logits and the whole of every guest's memory have to be what the model says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from numpy.typing import NDArray
from realm_abi.contract import load_contract
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.guard import Guarded, bind
from realm_mocks.host import Hashed, Moment, SessionTable, default_vocabulary
from realm_mocks.host import Session as TableSession
from realm_mocks.host.functions_v2 import FunctionsV2
from realm_mocks.host.model import ScriptedModel
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model, load_model
from realm_reference.orchestration.events import Failed
from realm_reference.orchestration.hostcalls import MODEL_HANDLE
from realm_reference.orchestration.hostfunctions_v2 import HostFunctionsV2
from realm_reference.orchestration.limits import GuestLimits
from realm_reference.orchestration.output import Sink
from realm_reference.orchestration.request import GenerationRequest, Prompt

GUESTS = 3
CONTEXT = 12
MEMORY_BYTES = 1 << 16
IDS_AT, LOGITS_AT = 64, 4096
MOST = 1 << 31
NAMES = [f"realm_session_{name}" for name in ("open", "fork", "truncate", "free")] + ["realm_forward"]


class Memory:
    """A guest's memory, full of canaries."""

    def __init__(self) -> None:
        self.bytes_ = np.random.default_rng(1).integers(0, 256, MEMORY_BYTES, np.uint8)

    def data(self) -> NDArray[np.uint8]:
        return self.bytes_


class Nobody(Sink):
    """Takes tokens for nobody."""

    cancelled = False

    def cancel(self, cause: Failed | None = None) -> None:
        raise AssertionError(cause)


class Host(Protocol):
    """One side under test, with all that the model of the contract has to know of it."""

    model: int
    vocab_size: int
    context_length: int
    most_sessions: int
    tolerance: float

    def guest(self, number: int) -> Any:
        """The host functions of one guest."""
        ...

    def logits(self, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        """What the model answers after these tokens [V]."""
        ...

    def close(self) -> int:
        """Ends all guests; how many sessions the host still holds."""
        ...


class MockSide:
    """MockHost's functions over a script in which every token counts."""

    context_length = CONTEXT
    most_sessions = 1 << 30
    tolerance = 0.0

    def __init__(self) -> None:
        self._model = ScriptedModel(Hashed(1), default_vocabulary(), 2, 4, self.context_length)
        self._table = SessionTable(self.context_length)
        self._guests: list[FunctionsV2] = []
        self.model = self._model.handle
        self.vocab_size = self._model.tokenizer.vocab_size

    def guest(self, number: int) -> FunctionsV2:
        self._guests.append(FunctionsV2(self._model, self._table, number))
        return self._guests[-1]

    def logits(self, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        return Hashed(1).logits(Moment(tokens, 0, self.vocab_size))

    def close(self) -> int:
        for guest in self._guests:
            self._table.drop(guest.owner)
        return len(list(self._table))


class ReferenceSide:
    """The reference's functions over the tiny model, one engine for all guests."""

    most_sessions = 4
    tolerance = 1e-4
    model = MODEL_HANDLE

    def __init__(self, model: Model, known: dict[tuple[int, ...], NDArray[np.float32]]) -> None:
        self._model = model
        self._known = known
        self._engine = Engine(ArrayRunner(model.transformer), prefill_chunk=3)
        self._guests: list[HostFunctionsV2] = []
        self.vocab_size = model.transformer.vocab_size
        self.context_length = model.context_length

    def guest(self, number: int) -> HostFunctionsV2:
        del number
        request = GenerationRequest(Prompt("", 0, add_bos=False), max_tokens=1)
        limits = GuestLimits(sessions=self.most_sessions)
        self._guests.append(HostFunctionsV2(self._model, self._engine, request, Nobody(), limits))
        return self._guests[-1]

    def logits(self, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        if tokens not in self._known:
            transformer = self._model.transformer
            self._known[tokens] = np.asarray(transformer.forward(tokens, transformer.new_cache(), 1)[0])
        return self._known[tokens]

    def close(self) -> int:
        for guest in self._guests:
            guest.close()
        left = self._engine.open_sessions
        self._engine.close()
        return left


class Machine(RuleBasedStateMachine):
    """Calls with handles of all kinds, in any order; `make` gives the side under test."""

    make: Callable[[], Host]
    seen: Counter[tuple[str, int]]

    def __init__(self) -> None:
        super().__init__()
        self.host = self.make()
        self.memories = [Memory() for _ in range(GUESTS)]
        self.expected = [memory.data().copy() for memory in self.memories]
        self.sessions: dict[tuple[int, int], list[int]] = {}
        self.given: set[tuple[int, int]] = set()
        contract = load_contract()
        self.calls: list[Mapping[str, Guarded]] = []
        for number in range(GUESTS):
            functions = self.host.guest(number + 1)
            bound = {
                name: bind(contract.imports[name], getattr(functions, name), functions) for name in NAMES
            }
            self.calls.append(bound)

    def call(self, guest: int, name: str, *raw: int) -> int:
        answer = self.calls[guest][name](self.memories[guest], *raw)
        self.seen[name, min(answer, 0)] += 1
        return answer

    def handle(self, guest: int, pick: int, strange: int) -> int:
        """Mostly one of the guest's own sessions; else one that somebody got some time, or another number."""
        own = [handle for owner, handle in self.sessions if owner == guest]
        known = sorted({handle for _, handle in self.given})
        pool = (own or known, own or known, own, known, [strange])[pick % 5] or [strange]
        return pool[pick // 5 % len(pool)]

    def refusal(self, guest: int, handle: int) -> ErrorCode | None:
        return None if (guest, handle) in self.sessions else ErrorCode.invalid_handle

    def took(self, guest: int, answer: int, due: ErrorCode | None, tokens: list[int]) -> None:
        """Holds the answer of open or fork to what is due; a handle is new to the guest, and in range."""
        if due is None and sum(owner == guest for owner, _ in self.sessions) >= self.host.most_sessions:
            due = ErrorCode.limit_exceeded
        if due is not None:
            assert answer == due
            return
        assert 1 <= answer < MOST
        assert (guest, answer) not in self.given
        self.given.add((guest, answer))
        self.sessions[guest, answer] = tokens

    guests = st.integers(0, GUESTS - 1)
    picks = st.integers(0, 1000)
    token_lists = st.lists(st.integers(0, 200), min_size=1, max_size=6)
    strange = st.sampled_from([0, 1, 2, 999_999, MOST - 1, MOST, 2**32 - 1])

    @initialize()
    def begin(self) -> None:
        for guest in range(GUESTS):
            self.open(guest, 1, 0)

    @rule(guest=guests, right=st.integers(0, 3), strange=strange)
    def open(self, guest: int, right: int, strange: int) -> None:
        model = self.host.model if right else strange
        due = None if model == self.host.model else ErrorCode.invalid_handle
        self.took(guest, self.call(guest, "realm_session_open", model), due, [])

    @rule(guest=guests, pick=picks, strange=strange)
    def fork(self, guest: int, pick: int, strange: int) -> None:
        handle = self.handle(guest, pick, strange)
        due = self.refusal(guest, handle)
        tokens = [] if due else list(self.sessions[guest, handle])
        self.took(guest, self.call(guest, "realm_session_fork", handle), due, tokens)

    @rule(guest=guests, pick=picks, strange=strange, length=st.integers(0, CONTEXT + 1) | st.just(2**32 - 1))
    def truncate(self, guest: int, pick: int, strange: int, length: int) -> None:
        handle = self.handle(guest, pick, strange)
        due = self.refusal(guest, handle)
        if due is None and length > len(self.sessions[guest, handle]):
            due = ErrorCode.invalid_argument
        assert self.call(guest, "realm_session_truncate", handle, length) == (due or 0)
        if due is None:
            del self.sessions[guest, handle][length:]

    @rule(guest=guests, pick=picks, strange=strange)
    def free(self, guest: int, pick: int, strange: int) -> None:
        handle = self.handle(guest, pick, strange)
        due = self.refusal(guest, handle)
        assert self.call(guest, "realm_session_free", handle) == (due or 0)
        if due is None:
            del self.sessions[guest, handle]

    @rule(guest=guests, pick=picks, chunks=st.lists(st.tuples(token_lists, picks), min_size=1, max_size=4))
    def feed(self, guest: int, pick: int, chunks: list[tuple[list[int], int]]) -> None:
        """Right calls, but for a context that may be full."""
        for ids, rows in chunks:
            handle = self.handle(guest, 5 * pick, 0)
            self.forward_(guest, handle, ids, rows % (len(ids) + 1), 0, IDS_AT, LOGITS_AT)

    @rule(
        guest=guests,
        pick=picks,
        strange=strange,
        ids=st.lists(st.integers(0, 200), max_size=8),
        odd_id=st.sampled_from([None, None, None, 2**32 - 1, "vocab_size"]),
        rows=st.integers(0, 9),
        spare=st.integers(-1, 3),
        ids_at=st.sampled_from([IDS_AT] * 6 + [IDS_AT + 2, MEMORY_BYTES - 4, MEMORY_BYTES, 2**32 - 4]),
        logits_at=st.sampled_from([LOGITS_AT] * 6 + [LOGITS_AT + 1, IDS_AT, MEMORY_BYTES - 8, 2**32 - 16]),
    )
    def forward(
        self,
        guest: int,
        pick: int,
        strange: int,
        ids: list[int],
        odd_id: int | str | None,
        rows: int,
        spare: int,
        ids_at: int,
        logits_at: int,
    ) -> None:
        vocab = self.host.vocab_size
        if odd_id is not None and ids:
            ids = [*ids[:-1], vocab if odd_id == "vocab_size" else int(odd_id)]
        self.forward_(guest, self.handle(guest, pick, strange), ids, rows, spare, ids_at, logits_at)

    def forward_(
        self, guest: int, handle: int, ids: list[int], rows: int, spare: int, ids_at: int, logits_at: int
    ) -> None:
        """Puts the ids into memory, calls, and holds the answer and the memory to the contract."""
        cap = max(0, rows * self.host.vocab_size + spare)
        if ids_at + 4 * len(ids) <= MEMORY_BYTES:
            for memory in (self.memories[guest].data(), self.expected[guest]):
                memory[ids_at : ids_at + 4 * len(ids)] = np.array(ids, "<u4").view(np.uint8)
        due = self.refusal(guest, handle)
        due = due or self.window(ids_at, len(ids)) or self.window(logits_at, cap)
        due = due or self.forward_refusal(len(self.sessions.get((guest, handle), ())), ids, rows, cap)
        answer = self.call(guest, "realm_forward", handle, ids_at, len(ids), logits_at, rows, cap)
        assert answer == (rows if due is None else due)
        if due is None:
            self.appended(guest, handle, ids, rows, logits_at)

    def window(self, at: int, count: int) -> ErrorCode | None:
        if at + 4 * count > MEMORY_BYTES:
            return ErrorCode.out_of_bounds
        return ErrorCode.misaligned if at % 4 else None

    def forward_refusal(self, held: int, ids: list[int], rows: int, cap: int) -> ErrorCode | None:
        if cap < rows * self.host.vocab_size:
            return ErrorCode.buffer_too_small
        if rows > len(ids) or not ids or max(ids) >= self.host.vocab_size:
            return ErrorCode.invalid_argument
        return ErrorCode.context_full if held + len(ids) > self.host.context_length else None

    def appended(self, guest: int, handle: int, ids: list[int], rows: int, at: int) -> None:
        """The tokens count now, and the logits of the last rows are in memory, as if fed to a new session."""
        tokens, vocab = self.sessions[guest, handle], self.host.vocab_size
        tokens += ids
        for row in range(rows):
            start = at + 4 * vocab * row
            stop = start + 4 * vocab
            seen = self.memories[guest].data()[start:stop].view("<f4")
            wanted = self.host.logits(tuple(tokens[: len(tokens) - rows + 1 + row]))
            assert np.abs(seen - wanted).max() <= self.host.tolerance
            self.expected[guest][start:stop] = seen.view(np.uint8)

    @invariant()
    def no_other_byte_of_any_memory_changed(self) -> None:
        for memory, expected in zip(self.memories, self.expected, strict=True):
            assert np.array_equal(memory.data(), expected)

    def teardown(self) -> None:
        assert self.host.close() == 0


FORWARD_ERRORS = (
    *(ErrorCode.invalid_argument, ErrorCode.out_of_bounds, ErrorCode.misaligned),
    *(ErrorCode.buffer_too_small, ErrorCode.invalid_handle, ErrorCode.context_full),
)


def play(make: Callable[[], Host]) -> Counter[tuple[str, int]]:
    """Runs the machine; answers how often each function answered what (0 for all that is no error)."""
    seen: Counter[tuple[str, int]] = Counter()
    machine = type("TheMachine", (Machine,), {"make": staticmethod(make), "seen": seen})
    quick = [phase for phase in Phase if phase is not Phase.shrink]  # a failure is told by its assertion
    chosen = settings(max_examples=150, stateful_step_count=50, deadline=None, phases=quick)
    run_state_machine_as_test(machine, settings=chosen)
    return seen


def check_reached(seen: Counter[tuple[str, int]]) -> None:
    """The machine has reached every answer, or it proves little."""
    met = {(name, 0) for name in NAMES} | {("realm_forward", int(code)) for code in FORWARD_ERRORS}
    met |= {(name, int(ErrorCode.invalid_handle)) for name in NAMES}
    assert met - seen.keys() == set()


def test_mock_host() -> None:
    check_reached(play(MockSide))


def test_reference(make_gguf: Callable[..., Path]) -> None:
    model = load_model(make_gguf({"llama.context_length": CONTEXT}))
    known: dict[tuple[int, ...], NDArray[np.float32]] = {}
    seen = play(lambda: ReferenceSide(model, known))
    check_reached(seen)
    assert seen["realm_session_open", ErrorCode.limit_exceeded]
    assert seen["realm_session_fork", ErrorCode.limit_exceeded]


def shared_fork(table: SessionTable, owner: int, handle: int) -> TableSession:
    copy = table.open(owner)
    copy.tokens = table.get(owner, handle).tokens
    return copy


def anybodys(table: SessionTable, owner: int, handle: int) -> TableSession:
    for session in table:
        if session.handle == handle:
            return session
    raise AbiError(ErrorCode.invalid_handle)


def half_appended(table: SessionTable, session: TableSession, ids: list[int]) -> None:
    for token in ids:
        if len(session.tokens) == CONTEXT:
            raise AbiError(ErrorCode.context_full)
        session.tokens.append(token)


@pytest.mark.parametrize(
    ("method", "wrong"), [("fork", shared_fork), ("get", anybodys), ("append", half_appended)]
)
def test_a_wrong_host_is_found_out(
    monkeypatch: pytest.MonkeyPatch, method: str, wrong: Callable[..., Any]
) -> None:
    monkeypatch.setattr(SessionTable, method, wrong)
    with pytest.raises((AssertionError, ExceptionGroup)):
        play(MockSide)
