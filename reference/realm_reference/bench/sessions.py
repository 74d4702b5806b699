"""Very many random sessions on a model that costs nothing: whether any page or memory stays behind."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
from realm_abi.errors import AbiError

from realm_reference.bench.sandboxes import memory
from realm_reference.bench.token_runner import VOCAB, TokenRunner, logits_of
from realm_reference.engine import Engine, Session

_CONTEXT: Final = 512
_PAGES: Final = 48
_ALIVE: Final = 24
_TENANTS: Final = 8
_WARM_UP: Final = 0.1
"""This part of the sessions comes before the first look at the memory."""


@dataclass(frozen=True)
class SessionsLeft:
    """After `sessions`, all freed: pages that somebody holds, and by how much the process grew, in KiB (None
    where the system does not tell). `wrong` answers differed from those to the same tokens alone.
    """

    sessions: int
    seconds: float
    forwards: int
    preemptions: int
    prefix_hit_tokens: int
    wrong: int
    pages_held: int
    sessions_open: int
    grown_kib: float | None


class _Crowd:
    """Sessions that come, go on, fork, go back, are cancelled and leave; a few alive at a time."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine = engine
        self.opened = 0
        self.wrong = 0
        self._draw = random.Random(seed)
        self._alive: list[tuple[Session, list[int]]] = []
        self._prompts = [self._tokens(_CONTEXT // 2) for _ in range(16)]

    def go_on(self, sessions: int) -> None:
        """Until so many have been opened, all told; nobody is left then."""
        while self.opened < sessions:
            if len(self._alive) < _ALIVE:
                self._open()
            for session, tokens in self._some():
                self._act(session, tokens)
        while self._alive:
            self._alive.pop()[0].free()

    def _open(self) -> None:
        """One that begins as others of its tenant have begun."""
        session = self.engine.open(f"tenant {self._draw.randrange(_TENANTS)}")
        self.opened += 1
        prompt = self._draw.choice(self._prompts)[: self._draw.randint(1, _CONTEXT // 2)]
        self._forward(session, [], prompt)
        self._alive.append((session, list(prompt)))

    def _act(self, session: Session, tokens: list[int]) -> None:
        what = self._draw.random()
        if what < 0.45:
            ids = self._tokens(self._draw.choice((1, 1, 1, 5, 20)))
            if len(tokens) + len(ids) <= _CONTEXT:
                self._forward(session, tokens, ids)
                tokens += ids
        elif what < 0.55:
            length = self._draw.randint(0, len(tokens))
            session.truncate(length)
            del tokens[length:]
        elif what < 0.65 and len(self._alive) < 2 * _ALIVE:
            self._alive.append((session.fork(), list(tokens)))
            self.opened += 1
        else:
            if what < 0.75:
                self._cancel(session)
            session.free()
            self._alive.remove((session, tokens))

    def _forward(self, session: Session, tokens: list[int], ids: list[int]) -> None:
        answer = session.forward(np.array(ids, np.uint32))
        self.wrong += not np.array_equal(answer, logits_of([*tokens, *ids]))

    def _cancel(self, session: Session) -> None:
        with suppress(AbiError):  # a context that is full, or the cancellation
            future = session.start_forward(np.zeros(3, np.uint32))
            session.cancel()
            future.result()

    def _some(self) -> Iterator[tuple[Session, list[int]]]:
        yield from self._draw.sample(self._alive, min(8, len(self._alive)))

    def _tokens(self, count: int) -> list[int]:
        return [self._draw.randrange(VOCAB) for _ in range(count)]


def measure(sessions: int, seed: int) -> SessionsLeft:
    """Opens and frees so many; one thread drives them, the engine's own steps."""
    runner = TokenRunner(_CONTEXT)
    with closing(Engine(runner, pages=_PAGES)) as engine:
        crowd = _Crowd(engine, seed)
        begun = time.perf_counter()
        crowd.go_on(int(sessions * _WARM_UP))
        before = _resident()
        crowd.go_on(sessions)
        after = _resident()
        counters, use = engine.counters, engine.cache_use()
        return SessionsLeft(
            sessions=crowd.opened,
            seconds=time.perf_counter() - begun,
            forwards=counters.steps,
            preemptions=counters.preemptions,
            prefix_hit_tokens=counters.prefix_hit_tokens,
            wrong=crowd.wrong,
            pages_held=use.bytes // runner.page_bytes,
            sessions_open=use.caches,
            grown_kib=None if before is None or after is None else after - before,
        )


def _resident() -> float | None:
    gc.collect()
    return memory().get("VmRSS")
