"""Guests that trap, loop, grow, recurse or lie harm their own instance and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import wasmtime
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.sandbox import GuestFault, GuestModule, HostTrap, Instance, Limits, Runtime

ALLOC = '(func (export "realm_alloc") (param i32) (result i32) i32.const 1024)'
MEMORY = '(memory (export "memory") 1)'
VERSION = '(import "env" "realm_abi_version" (func $version (result i32)))'
FREE = '(import "env" "realm_session_free" (func $free (param i32) (result i32)))'
QUICK = Limits(guest_seconds=0.05, grace_seconds=0.05)


class Host:
    """Answers `realm_abi_version` with what `behave` does."""

    def __init__(self, behave: Any = lambda: 2) -> None:
        self.behave = behave
        self.calls = 0
        self.freed: list[int] = []

    def dims(self, kind: str, handle: int, /) -> Mapping[str, int]:
        return {"hidden_size": 4, "vocab_size": 8}

    def realm_abi_version(self) -> Any:
        self.calls += 1
        return self.behave()

    def realm_session_free(self, session: int, /) -> int:
        self.freed.append(session)
        return 0


def module(runtime: Runtime, body: str, *parts: str, memory: str = MEMORY, alloc: str = ALLOC) -> GuestModule:
    """A v2 guest whose `generate` has this body."""
    generate = f'(func $generate (export "generate") (param i32) (result i32) {body})'
    imports = [part for part in parts if part.startswith("(import")]
    rest = [part for part in parts if not part.startswith("(import")]
    text = f"(module {' '.join(imports)} {memory} {alloc} {generate} {' '.join(rest)})"
    return runtime.compile(bytes(wasmtime.wat2wasm(text)))


def fault(instance: Instance) -> GuestFault:
    with pytest.raises(GuestFault) as caught:
        instance.generate_v2("prompt")
    return caught.value


def v1(runtime: Runtime, body: str, *parts: str) -> GuestModule:
    text = f"""(module {MEMORY} {" ".join(parts)} (func (export "realm_new") (result i32) i32.const 0)
      (func (export "generate") (param i32 i32 i32 i32) (result i32) {body}))"""
    return runtime.compile(bytes(wasmtime.wat2wasm(text)))


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("unreachable", "trap", "unreachable"),
        ("(loop br 0) i32.const 0", "deadline", "without a host call"),
        ("local.get 0 call $generate", "trap", "call stack exhausted"),
        ("(i32.div_u (i32.const 1) (i32.const 0))", "trap", "divide by zero"),
        ("(i32.load (i32.const 0x7fffffff))", "trap", "out of bounds"),
        ("i32.const 4", "lied", "answered 4"),
        ("i32.const -15", "lied", "answered -15"),
        ("i32.const 0x80000000", "lied", "answered -2147483648"),
    ],
)
def test_each_way_to_break_is_a_fault_of_its_own(runtime: Runtime, body: str, kind: str, words: str) -> None:
    found = fault(runtime.instantiate(module(runtime, body), Host(), QUICK))
    assert found.kind == kind
    assert words in found.message
    assert "\n" not in found.message
    healthy = runtime.instantiate(module(runtime, "i32.const 2"), Host())
    assert healthy.generate_v2("prompt") == 2


@pytest.mark.parametrize("code", [*range(4), *map(int, ErrorCode)])
def test_answers_pass_unchanged(runtime: Runtime, code: int) -> None:
    assert runtime.instantiate(module(runtime, f"i32.const {code}"), Host()).generate_v2("") == code


def test_memory_grows_to_the_cap_and_no_further(runtime: Runtime) -> None:
    grow = "(drop (memory.grow (i32.const 2))) (memory.grow (i32.const 1)) i32.const -1 i32.eq"
    limits = Limits(memory_bytes=3 * 65536)
    instance = runtime.instantiate(module(runtime, grow), Host(), limits)
    assert instance.generate_v2("") == 1, "the growth beyond the cap was refused"
    assert len(instance.memory.data()) == 3 * 65536


def test_a_module_that_starts_above_the_cap(runtime: Runtime) -> None:
    large = module(runtime, "i32.const 0", memory='(memory (export "memory") 100)')
    with pytest.raises(GuestFault, match="memory: it starts with 6553600 bytes, the limit is 65536"):
        runtime.instantiate(large, Host(), Limits(memory_bytes=65536))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(0, "memory"), (65536, "lied"), (0xFFFFFFF0, "lied"), (1032, "lied"), (65520, "lied")],
)
def test_an_allocator_that_lies(runtime: Runtime, answer: int, kind: str) -> None:
    alloc = f'(func (export "realm_alloc") (param i32) (result i32) i32.const {answer})'
    assert fault(runtime.instantiate(module(runtime, "i32.const 0", alloc=alloc), Host())).kind == kind


def test_a_start_function_is_held_to_the_same_limits(runtime: Runtime) -> None:
    for body, kind in (
        ("(loop br 0)", "deadline"),
        ("unreachable", "trap"),
        ("(drop (call $version))", "trap"),
    ):
        starting = module(runtime, "i32.const 0", VERSION, f"(func $start {body}) (start $start)")
        with pytest.raises(GuestFault) as caught:
            runtime.instantiate(starting, Host(), QUICK)
        assert caught.value.kind == kind


def test_views_follow_memory_that_grows(runtime: Runtime) -> None:
    """The guest grows its memory by much and passes a window in the new part."""
    text = """(module (import "env" "realm_stream_token" (func $stream (param i32 i32) (result i32)))
      (memory (export "memory") 1) (func (export "realm_new") (result i32) i32.const 0)
      (func (export "generate") (param i32 i32 i32 i32) (result i32)
        (drop (call $stream (i32.const 0) (i32.const 1)))
        (drop (memory.grow (i32.const 1000)))
        (i32.store8 (i32.const 65000000) (i32.const 0x41))
        (drop (call $stream (i32.const 65000000) (i32.const 1)))
        (i32.const 65000000)))"""
    heard: list[str] = []

    class Streaming(Host):
        def realm_stream_token(self, text: str, /) -> int:
            heard.append(text)
            return 0

    instance = runtime.instantiate(runtime.compile(bytes(wasmtime.wat2wasm(text))), Streaming())
    assert instance.generate_v1("prompt", 1) == b"A"
    assert heard == ["\0", "A"]


def test_a_host_call_gives_the_guest_new_time(runtime: Runtime) -> None:
    def slow() -> int:
        time.sleep(2 * QUICK.guest_seconds)
        return 2

    guest = module(runtime, "(drop (call $version)) " * 5 + "i32.const 1", VERSION)
    assert runtime.instantiate(guest, Host(slow), QUICK).generate_v2("") == 1


def test_after_cancel_host_calls_answer_cancelled_but_for_the_cleanup(runtime: Runtime) -> None:
    guest = module(runtime, "(drop (call $free (i32.const 9))) call $version", VERSION, FREE)
    host = Host()
    instance = runtime.instantiate(guest, host)
    instance.cancel()
    assert instance.generate_v2("") == ErrorCode.cancelled
    assert (host.calls, host.freed) == (0, [9])


def test_a_guest_that_ignores_the_cancellation_is_interrupted(runtime: Runtime) -> None:
    guest = module(runtime, "(loop (drop (call $version)) br 0) i32.const 0", VERSION)

    def cancel() -> int:
        instance.cancel()
        return 2

    host = Host(cancel)
    instance = runtime.instantiate(guest, host, Limits(guest_seconds=60, grace_seconds=0.05))
    found = fault(instance)
    assert found.kind == "deadline"
    assert "after it was cancelled" in found.message
    assert host.calls == 1


def test_a_cancelled_guest_that_only_computes_is_interrupted(runtime: Runtime) -> None:
    guest = module(runtime, "(drop (call $version)) (loop br 0) i32.const 0", VERSION)
    entered = threading.Event()

    def enter() -> int:
        entered.set()
        return 2

    instance = runtime.instantiate(guest, Host(enter), Limits(guest_seconds=600, grace_seconds=0.05))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(fault, instance)
        assert entered.wait(30)
        instance.cancel()
        assert running.result(30).kind == "deadline"


def test_cancel_from_another_thread(runtime: Runtime) -> None:
    entered = threading.Event()
    guest = module(runtime, "(loop (br_if 0 (i32.eq (call $version) (i32.const 2)))) i32.const -11", VERSION)

    def enter() -> int:
        entered.set()
        return 2

    instance = runtime.instantiate(guest, Host(enter))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(instance.generate_v2, "")
        assert entered.wait(30)
        instance.cancel()
        assert running.result(30) == ErrorCode.cancelled


def test_a_host_function_cannot_call_its_guest(runtime: Runtime) -> None:
    holder: list[Instance] = []
    host = Host(lambda: holder[0].generate_v2(""))
    holder.append(runtime.instantiate(module(runtime, "call $version", VERSION), host))
    assert holder[0].generate_v2("") == ErrorCode.internal
    assert host.calls == 1


def test_a_trap_of_the_host(runtime: Runtime) -> None:
    def trap() -> int:
        raise HostTrap("no more")

    found = fault(runtime.instantiate(module(runtime, "call $version", VERSION), Host(trap)))
    assert (found.kind, found.message) == ("trap", "no more")


def test_an_interrupt_of_the_host_comes_out_on_this_side(runtime: Runtime) -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    instance = runtime.instantiate(module(runtime, "call $version", VERSION), Host(interrupt))
    with pytest.raises(KeyboardInterrupt):
        instance.generate_v2("")


def test_what_a_host_does_not_offer_is_unsupported(runtime: Runtime) -> None:
    fork = '(import "env" "realm_session_fork" (func $fork (param i32) (result i32)))'
    instance = runtime.instantiate(module(runtime, "(call $fork (i32.const 1))", fork), Host())
    assert instance.generate_v2("") == ErrorCode.unsupported


def test_a_wrap_stands_before_every_host_call(runtime: Runtime) -> None:
    seen: list[tuple[Any, ...]] = []

    def wrap(function: Any, guarded: Any) -> Any:
        def wrapped(memory: Any, *raw: Any) -> int:
            answer: int = guarded(memory, *raw)
            seen.append((function.name, raw, answer))
            return answer + 1

        return wrapped

    guest = module(runtime, "(drop (call $free (i32.const -1))) call $version", VERSION, FREE)
    assert runtime.instantiate(guest, Host(), wrap=wrap).generate_v2("") == 3
    assert seen == [("realm_session_free", (-1,), ErrorCode.invalid_handle), ("realm_abi_version", (), 2)]


def test_two_threads_never_mix_up_faults(runtime: Runtime) -> None:
    """Each thread's guest fails in its own way, many times over; each failure surfaces where it belongs."""
    guest = module(runtime, "call $version", VERSION)

    def run(name: str) -> None:
        def trap() -> int:
            raise HostTrap(name)

        for _ in range(150):
            assert fault(runtime.instantiate(guest, Host(trap))).message == name
            assert runtime.instantiate(guest, Host(lambda: 1)).generate_v2("") == 1

    with ThreadPoolExecutor(2) as pool:
        for running in [pool.submit(run, "first"), pool.submit(run, "second")]:
            running.result(60)


def test_v1_text(runtime: Runtime) -> None:
    guest = v1(runtime, "i32.const 8", '(data (i32.const 8) "h\\c3\\a9llo\\00rest")')
    assert runtime.instantiate(guest, Host()).generate_v1("prompt", 1) == "h\u00e9llo".encode()


def test_v1_without_allocator_gets_its_prompt_at_1_mib(runtime: Runtime) -> None:
    guest = v1(runtime, "(i32.store8 (i32.add (local.get 0) (local.get 1)) (i32.const 0)) local.get 0")
    instance = runtime.instantiate(guest, Host())
    assert instance.generate_v1("prompt", 1) == b"prompt"
    assert instance.memory.data()[1 << 20 : (1 << 20) + 6].tobytes() == b"prompt"
    capped = runtime.instantiate(guest, Host(), Limits(memory_bytes=1 << 20))
    with pytest.raises(GuestFault, match="memory: "):
        capped.generate_v1("prompt", 1)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("(memory.fill (i32.const 0) (i32.const 65) (i32.const 65536)) i32.const 5", "has no end"),
        ("i32.const 0x7fffffff", "has no end"),
        ("i32.const -1", "has no end"),
        ("(i32.store8 (i32.const 5) (i32.const 0xff)) i32.const 5", "not UTF-8"),
    ],
)
def test_v1_text_that_is_none(runtime: Runtime, body: str, words: str) -> None:
    alloc = '(func (export "realm_alloc") (param i32) (result i32) i32.const 1024)'
    with pytest.raises(GuestFault, match=words) as caught:
        runtime.instantiate(v1(runtime, body, alloc), Host()).generate_v1("", 1)
    assert caught.value.kind == "lied"


def test_v1_failure_without_a_failed_call_is_internal(runtime: Runtime) -> None:
    with pytest.raises(AbiError) as caught:
        runtime.instantiate(v1(runtime, "i32.const 0"), Host()).generate_v1("", 1)
    assert caught.value.code is ErrorCode.internal


def test_options_that_do_not_fit_are_refused_before_the_guest_runs(runtime: Runtime) -> None:
    instance = runtime.instantiate(module(runtime, "unreachable"), Host())
    wrong: list[dict[str, Any]] = [
        {"max_tokens": -1},
        {"max_token": 1},
        {"stop_tokens": [-1]},
        {"seed": 2**64},
    ]
    for options in wrong:
        with pytest.raises(ValueError, match=r"max_token|token ids|seed"):
            instance.generate_v2("", **options)


def test_closed(runtime: Runtime) -> None:
    instance = runtime.instantiate(module(runtime, "i32.const 0"), Host())
    memory = instance.memory.data()
    instance.close()
    instance.close()
    with pytest.raises(RuntimeError, match="closed"):
        instance.generate_v2("")
    assert not np.any(memory[:8]), "a view that is kept keeps the memory"
