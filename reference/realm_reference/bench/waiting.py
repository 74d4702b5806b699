"""What it costs a guest to wait for a token: on fibers, on threads, and the same loop without guests.

The engine here takes no time at all, so what is left of a token is the way to it and back.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

import wasmtime
from realm_abi.errors import FinishReason
from realm_abi.hostapi import F32, U32
from realm_abi.sandbox import Runtime, fibers_work
from realm_abi.steps import Steps, until

from realm_reference.orchestration.crews import Crew, Fibers, Threads

GUESTS: Final = (1, 32)
_TOKENS: Final = 6_000
"""Of all guests together in one round."""

_GUEST: Final = """(module
  (import "env" "realm_forward" (func $forward (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "realm_alloc") (param i32) (result i32) i32.const 1024)
  (func (export "generate") (param i32) (result i32) (local $left i32)
    (local.set $left (i32.const TOKENS))
    (loop $next
      (drop (call $forward
        (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
      (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    i32.const 2))"""


@dataclass(frozen=True)
class WaitingCost:
    """Microseconds a token, all guests' tokens counted, medians: of the clock, and of the process on all
    cores, which other work on the machine changes less. `way` is none, fibers or threads.
    """

    guests: int
    way: str
    us: float
    cpu_us: float


class _Engine:
    """Completes on its own thread what it was asked, as soon as `batch` have asked, as an engine does that
    waits for those of its last step. As a host it has the one function that waits.
    """

    def __init__(self) -> None:
        self.batch = 1
        self._asked: list[Future[None]] = []
        self._lock = threading.Lock()
        self._batches: SimpleQueue[list[Future[None]]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="null-engine")
        self._thread.start()

    def ask(self) -> Future[None]:
        """For a token."""
        future: Future[None] = Future()
        with self._lock:
            self._asked.append(future)
            if len(self._asked) == self.batch:
                batch, self._asked = self._asked, []
                self._batches.put(batch)
        return future

    def close(self) -> None:
        """Ends its thread."""
        self._batches.put([])
        self._thread.join()

    def dims(self, kind: str, handle: int, /) -> Mapping[str, int]:
        """Of no model."""
        return {"hidden_size": 1, "vocab_size": 1}

    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> Steps[int]:
        """Waits for a token."""
        yield from until(self.ask())
        return rows

    def _run(self) -> None:
        while batch := self._batches.get():
            for future in batch:
                future.set_result(None)


def measure(repeat: int) -> list[WaitingCost]:
    """All ways in turns; without fibers where there are none."""
    spent: dict[tuple[int, str], list[tuple[float, float]]] = {}
    with closing(_Engine()) as engine:
        ways = _ways(engine)
        for _ in range(repeat):
            for guests in GUESTS:
                engine.batch = guests
                for way, run in ways.items():
                    spent.setdefault((guests, way), []).append(run(guests))
    return [
        WaitingCost(guests, way, *(statistics.median(times) for times in zip(*rounds, strict=True)))
        for (guests, way), rounds in spent.items()
    ]


class _Watch:
    """Seconds of the clock and of the process since it was made."""

    def __init__(self) -> None:
        self._begun = time.perf_counter(), time.process_time()

    def us_each(self, tokens: int) -> tuple[float, float]:
        """Microseconds of both for each of so many tokens."""
        wall, cpu = self._begun
        return (time.perf_counter() - wall) / tokens * 1e6, (time.process_time() - cpu) / tokens * 1e6


def _ways(engine: _Engine) -> dict[str, Callable[[int], tuple[float, float]]]:
    """Ways to wait for the tokens of so many, each of which answers both times a token."""
    plain = Runtime()
    ways: dict[str, Callable[[int], tuple[float, float]]] = {
        "none": lambda guests: _without(engine, guests),
        "threads": lambda guests: _with(engine, plain, Threads(guests), guests),
    }
    if fibers_work():
        on_fibers = Runtime(fibers=True)
        ways["fibers"] = lambda guests: _with(engine, on_fibers, Fibers(guests), guests)
    return ways


def _without(engine: _Engine, guests: int) -> tuple[float, float]:
    """One thread that asks for all and waits for all, again and again."""
    tokens, watch = _TOKENS // guests, _Watch()
    for _ in range(tokens):
        for asked in [engine.ask() for _ in range(guests)]:
            asked.result()
    return watch.us_each(tokens * guests)


def _with(engine: _Engine, runtime: Runtime, crew: Crew, guests: int) -> tuple[float, float]:
    """So many guests, from when all of them are there to the last one's end."""
    tokens = _TOKENS // guests
    module = runtime.compile(bytes(wasmtime.wat2wasm(_GUEST.replace("TOKENS", str(tokens)))))
    arrived, over = threading.Semaphore(0), threading.Semaphore(0)
    begin: Future[None] = Future()
    answers: list[int] = []

    def guest() -> Steps[None]:
        try:
            instance = yield from runtime.instantiate_steps(module, engine)
            with closing(instance):
                arrived.release()
                yield from until(begin)
                answers.append((yield from instance.generate_v2_steps("")))
        finally:
            over.release()

    for _ in range(guests):
        crew.start(guest())
    _await(arrived, guests)
    watch = _Watch()
    begin.set_result(None)
    _await(over, guests)
    cost = watch.us_each(tokens * guests)
    crew.close()
    if answers != [FinishReason.max_tokens] * guests:
        raise RuntimeError(f"guests answered {answers}")
    return cost


def _await(semaphore: threading.Semaphore, count: int) -> None:
    for _ in range(count):
        semaphore.acquire()
