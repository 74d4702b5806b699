"""The engine of one loaded model: it opens sessions and owns the loop that serves them."""

from __future__ import annotations

from typing import Final

from realm_reference.engine.census import CacheUse, Census
from realm_reference.engine.loop import EngineCounters, StepLoop
from realm_reference.engine.session import Session
from realm_reference.engine.work import Observe
from realm_reference.model.transformer import Transformer

# Long enough to keep the matrix products efficient, short enough that others' decode steps do not wait long.
PREFILL_CHUNK: Final = 64


class Engine:
    """One copy of the weights, any number of sessions, one step at a time."""

    def __init__(
        self,
        transformer: Transformer,
        *,
        prefill_chunk: int = PREFILL_CHUNK,
        on_step: Observe | None = None,
    ) -> None:
        """`on_step` is called on the loop's thread after each step; it must be quick and must not raise."""
        self._transformer = transformer
        self._chunk = prefill_chunk
        self._loop = StepLoop(on_step)
        self._census = Census()

    def open(self, owner: str = "", observe: Observe | None = None) -> Session:
        """A new, empty session. Its cache grows with its tokens. Owners (tenants) share the engine fairly.

        `observe` is called as `on_step` is, after each of this session's steps.
        """
        cache = self._transformer.new_cache()
        return Session(self._loop, self._transformer, cache, self._chunk, self._census, owner, observe)

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
        """Totals since the start: steps, rows (token positions), seconds, failed steps."""
        return self._loop.counters

    @property
    def waiting(self) -> int:
        """Calls that wait for a step now."""
        return self._loop.waiting

    @property
    def open_sessions(self) -> int:
        """Sessions that hold a KV cache now."""
        return self._census.count

    def cache_use(self) -> CacheUse:
        """What the KV caches of all sessions hold now."""
        return self._census.use()
