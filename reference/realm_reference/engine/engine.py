"""The engine of one loaded model: it opens sessions and owns the loop that serves them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from realm_reference.engine.adapters import Adapters, LoadedAdapter
from realm_reference.engine.fairqueue import Shares
from realm_reference.engine.layers import LayerSession
from realm_reference.engine.loop import StepLoop
from realm_reference.engine.scheduler import EngineLimits, Scheduler
from realm_reference.engine.sequence import Sequence, pages_for
from realm_reference.engine.session import Session
from realm_reference.engine.work import EngineCounters, Observe
from realm_reference.model.runner import BASE, Runner

# Long enough to keep the matrix products efficient, short enough that others' decode steps do not wait long.
PREFILL_CHUNK: Final = 64
STEP_ROWS: Final = 64
"""Positions of prompts in a step, all sequences together."""
BATCH: Final = 64
"""Sequences in a step, with a runner that gains by it."""
CACHE_BYTES: Final = 1 << 30
"""Of the KV cache, unless one sequence of the model's whole context needs more. What was never used of it is
never touched, so it takes no memory.
"""
_MOST_CONTEXTS: Final = 64


@dataclass(frozen=True)
class CacheUse:
    """All open sessions together: how many, the tokens in them, the bytes of the pages that they hold (what
    several share counts once), and the share of all pages that these are.
    """

    caches: int
    tokens: int
    bytes: int
    share: float


class Engine:
    """One copy of the weights, any number of sessions, one step at a time."""

    def __init__(
        self,
        runner: Runner,
        *,
        prefill_chunk: int = PREFILL_CHUNK,
        step_rows: int = STEP_ROWS,
        batch: int | None = None,
        pages: int | None = None,
        cache_bytes: int = CACHE_BYTES,
        on_step: Observe | None = None,
    ) -> None:
        """`batch` sequences in a step; by default as many as make the runner faster. `pages` of KV cache:
        enough for the model's context at least (ValueError), by default that or what `cache_bytes` hold.

        `on_step` is called on the loop's thread after each step; it must be quick and must not raise.
        """
        self._runner = runner
        one = pages_for(runner.config.context_length)
        if pages is None:
            pages = max(one, min(cache_bytes // runner.page_bytes, _MOST_CONTEXTS * one))
        if pages < one:
            raise ValueError(f"{pages} pages of KV cache do not hold one sequence: it needs {one}")
        if batch is None:
            batch = BATCH if runner.batch_invariant else 1
        limits = EngineLimits(batch, max(step_rows, prefill_chunk), prefill_chunk, pages)
        runner.reserve(pages)
        self._scheduler = Scheduler(limits, Shares())
        self._loop = StepLoop(runner, self._scheduler, on_step)
        self.adapters = Adapters(runner, self._loop.between_steps)
        self.draft: Engine | None = None
        """The draft model's engine, where there is one."""

    def open(
        self, owner: str = "", observe: Observe | None = None, adapter: LoadedAdapter | None = None
    ) -> Session:
        """A new, empty session. Owners (tenants) share the engine fairly, and no pages with each other.

        `observe` is called as `on_step` is, after each of this session's steps. It runs with `adapter`, which
        the caller holds until the session is freed; pages are shared only among sessions with the same.
        """
        return Session(self._loop, self._runner, self._sequence(owner, adapter), observe)

    def open_layers(
        self, owner: str = "", observe: Observe | None = None, adapter: LoadedAdapter | None = None
    ) -> LayerSession:
        """A new, empty session of ABI v1, run layer by layer; otherwise as `open`."""
        return LayerSession(self._loop, self._runner, self._sequence(owner, adapter), observe)

    def close(self) -> None:
        """Stop stepping: the running step ends, waiting calls fail with `internal`."""
        self._loop.close()

    @property
    def alive(self) -> bool:
        """Whether sessions can make progress."""
        return self._loop.alive

    def responds(self, seconds: float) -> bool:
        """Whether the loop shows within `seconds` that it turns: it ends a step, or wakes when it has none.
        Blocks for so long at most.
        """
        return self._loop.responds(seconds)

    @property
    def counters(self) -> EngineCounters:
        """Totals since the start."""
        return self._scheduler.counters

    @property
    def batch_invariant(self) -> bool:
        """Whether a position's bits depend on its sequence alone: `Runner.batch_invariant`."""
        return self._runner.batch_invariant

    @property
    def context_length(self) -> int:
        """Positions that a session can hold."""
        return self._runner.config.context_length

    def count_guesses(self, made: int, kept: int) -> None:
        """A session's user has fed so many tokens before they were sampled, and sampled so many of them."""
        with self._loop.scheduling() as scheduler:
            scheduler.counters.draft_tokens += made
            scheduler.counters.draft_accepted += kept

    @property
    def waiting(self) -> int:
        """Calls that wait for a step now."""
        return self._loop.waiting

    @property
    def open_sessions(self) -> int:
        """Sessions that are open now."""
        return len(self._scheduler.sequences)

    def cache_use(self) -> CacheUse:
        """What all sessions hold now."""
        with self._loop.scheduling() as scheduler:
            sequences = list(scheduler.sequences.values())
            tokens = sum(len(sequence.tokens) or sequence.computed for sequence in sequences)
            pool = scheduler.pool
            return CacheUse(
                len(sequences), tokens, pool.held * self._runner.page_bytes, pool.held / pool.total
            )

    def _sequence(self, owner: str, adapter: LoadedAdapter | None) -> Sequence:
        cuts = None if self._runner.batch_invariant else list[int]()
        with self._loop.scheduling() as scheduler:
            slot, salt = (adapter.slot, adapter.salt) if adapter else (BASE, "")
            return scheduler.open(owner, slot, salt, cuts=cuts)
