"""Guests on fibers: many on one thread, in turns; where fibers do not behave as tried, there are none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import pytest
import wasmtime
from realm_abi import _fibers, _fibertest
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.hostapi import F32, U32, HostTrap
from realm_abi.sandbox import GuestFault, GuestModule, Instance, Limits, Runtime, fibers_work
from realm_abi.steps import Answer, Aside, Steps, aside, finish, until

pytestmark = pytest.mark.skipif(bool(_fibers.missing()), reason=f"no fibers here: {_fibers.missing()}")

ASKING = """(module
  (import "env" "realm_forward" (func $forward (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "realm_alloc") (param i32) (result i32) i32.const 1024)
  (func $ask (result i32)
    (call $forward (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 8)))
  (func $deep (param $left i32) (result i32)
    (if (result i32) (i32.eqz (local.get $left)) (then (call $ask))
      (else (i32.add (call $deep (i32.sub (local.get $left) (i32.const 1))) (i32.const 0)))))
  (func (export "generate") (param i32) (result i32) BODY))"""
LIMITS = Limits(guest_seconds=1, grace_seconds=1)


class Engine:
    """A host whose `realm_forward` waits for futures that the test completes; what it answers is its row."""

    def __init__(self) -> None:
        self.asked: list[Future[int]] = []

    def dims(self, kind: str, handle: int, /) -> Mapping[str, int]:
        return {"hidden_size": 4, "vocab_size": 8}

    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> Steps[int]:
        self.asked.append(Future())
        answer = yield from until(self.asked[-1])
        logits[:] = answer
        return answer


@pytest.fixture(scope="module")
def on_fibers() -> Runtime:
    assert fibers_work()
    return Runtime(fibers=True)


@pytest.fixture
def start(on_fibers: Runtime) -> Iterator[Callable[..., tuple[Instance, Steps[int]]]]:
    """`start(body, host)`: an instance of a guest and the steps of its generation."""
    left: list[Steps[int]] = []

    def started(body: str, host: Any, limits: Limits = LIMITS) -> tuple[Instance, Steps[int]]:
        module: GuestModule = on_fibers.compile(bytes(wasmtime.wat2wasm(ASKING.replace("BODY", body))))
        instance = on_fibers.instantiate(module, host, limits)
        steps = instance.generate_v2_steps("prompt")
        left.append(steps)
        return instance, steps

    yield started
    for steps in left:
        steps.close()


def wait_of(steps: Steps[int]) -> object:
    """What the guest waits for next, which is not only another turn: on a busy machine it may need some."""
    while (waited := next(steps)) is None:
        pass
    return waited


def end_of(steps: Steps[int]) -> int:
    """The answer, when nothing is waited for any more but a turn."""
    try:
        while True:
            assert next(steps) is None
    except StopIteration as end:
        return int(end.value)


def test_the_installed_wasmtime_passes() -> None:
    assert _fibertest._tried() == ""


@pytest.mark.parametrize("broken", ["_I32_PER_VALUE", "_CONTENT"])
def test_another_layout_means_threads_and_a_line_that_says_so(
    broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_fibers, broken, getattr(_fibers, broken) + 1)
    assert not fibers_work.__wrapped__()
    assert "guests run on threads of their own, not on fibers: an answer at once" in caplog.text


def test_another_release_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_fibers, "RELEASES", ("1.0.",))
    monkeypatch.setattr(_fibertest, "_tried", lambda: pytest.fail("a wrong signature may end the process"))
    assert not fibers_work.__wrapped__()
    assert "none of the releases" in caplog.text


def test_guests_wait_side_by_side_on_one_thread(start: Any) -> None:
    guests = [(host, *start("(call $ask)", host)) for host in (Engine() for _ in range(50))]
    for host, _, steps in guests:
        assert wait_of(steps) is host.asked[0]
    for number, (host, instance, steps) in reversed(list(enumerate(guests))):
        host.asked[0].set_result(number % 4)
        assert end_of(steps) == number % 4
        assert instance.memory.data()[64:96].view("<f4").tolist() == [number % 4] * 8
    assert "fiber" not in {thread.name for thread in threading.enumerate()}


def test_a_guest_that_computes_ends_its_turns(start: Any) -> None:
    _, spinning = start("(loop br 0) i32.const 0", Engine())
    host = Engine()
    _, asking = start("(call $ask)", host)
    assert next(spinning) is None, "a turn ends without a host call"
    assert isinstance(wait_of(asking), Future)
    assert next(spinning) is None
    host.asked[0].set_result(3)
    assert end_of(asking) == 3
    with pytest.raises(GuestFault, match="deadline"):
        end_of(spinning)


def test_time_in_which_others_compute_is_not_the_guests(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock jumps by far more than the guest may use, but only while it is not its turn."""
    from realm_abi import _epochs

    now, jumped = _epochs.time.monotonic, [0.0]
    monkeypatch.setattr(_epochs.time, "monotonic", lambda: now() + jumped[0])
    _, steps = start("(loop br 0) i32.const 0", Engine(), Limits(guest_seconds=5))
    for _ in range(3):
        assert next(steps) is None
        jumped[0] += 100
    assert next(steps) is None


@pytest.mark.parametrize(
    ("error", "answer"),
    [(AbiError(ErrorCode.cancelled), ErrorCode.cancelled), (ValueError("x"), ErrorCode.internal)],
)
def test_what_a_future_raises_is_the_code_that_the_guest_gets(
    start: Any, error: Exception, answer: int
) -> None:
    host = Engine()
    _, steps = start("(call $ask)", host)
    wait_of(steps)
    host.asked[0].set_exception(error)
    assert end_of(steps) == answer


def test_a_trap_after_the_wait(start: Any) -> None:
    host = Engine()
    _, steps = start("(call $ask)", host)
    wait_of(steps)
    host.asked[0].set_exception(HostTrap("no more"))
    with pytest.raises(GuestFault, match="trap: no more"):
        end_of(steps)


def test_an_interrupt_while_it_waits_comes_out_on_this_side(start: Any) -> None:
    host = Engine()
    _, steps = start("(call $ask)", host)
    wait_of(steps)
    host.asked[0].set_exception(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        end_of(steps)


def test_a_guest_is_given_up_where_it_waits(start: Any) -> None:
    host, ended = Engine(), []
    realm_forward = host.realm_forward

    def noting(*given: Any) -> Answer:
        try:
            return (yield from realm_forward(*given))
        finally:
            ended.append(True)

    host.realm_forward = noting  # type: ignore[assignment, method-assign]
    instance, steps = start("(call $ask)", host)
    wait_of(steps)
    steps.close()
    assert ended == [True]
    host.asked[0].set_result(1)  # nobody writes to the guest any more
    instance.close()


def test_cancelled_while_it_waits(start: Any) -> None:
    """The one who completes the future is told by the host; the guest's later calls answer `cancelled`."""
    host = Engine()
    instance, steps = start("(drop (call $ask)) (call $ask)", host)
    wait_of(steps)
    instance.cancel()
    host.asked[0].set_exception(AbiError(ErrorCode.cancelled))
    assert end_of(steps) == ErrorCode.cancelled
    assert len(host.asked) == 1


def test_work_aside(start: Any) -> None:
    class Host(Engine):
        def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> Steps[int]:
            return (yield from aside(lambda: 2))

    _, steps = start("(call $ask)", Host())
    work = wait_of(steps)
    assert isinstance(work, Aside)
    work.run()
    assert end_of(steps) == 2
    assert finish(start("(call $ask)", Host())[1]) == 2


def test_a_host_call_from_deep_in_the_guests_stack(start: Any) -> None:
    """Python's part of the call has the stack that wasm may not use, however deep the guest is."""
    for depth in range(1000, 40_000, 1500):
        host = Engine()
        _, steps = start(f"(call $deep (i32.const {depth}))", host)
        try:
            wait_of(steps)
        except GuestFault as fault:
            ended = fault
            break
        host.asked[0].set_result(1)
        assert end_of(steps) == 1
    assert "call stack exhausted" in ended.message
    assert depth > 1000
