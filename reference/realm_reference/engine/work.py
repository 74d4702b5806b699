"""What a session asks of the step loop: a call that is done in one or more steps."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from realm_reference.model.transformer import KVCache, Transformer

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class StepRecord:
    """What one step did: when it began (`time.perf_counter_ns`), token positions through the model, its
    seconds, and the seconds that its work had waited.
    """

    begun_ns: int
    rows: int
    seconds: float
    queued_seconds: float


Observe = Callable[[StepRecord], None]


class Work(Protocol):
    """One call of one session. `advance` runs on the loop's thread only; the session's thread waits on
    `future`.
    """

    future: Future[Floats]
    abandoned: bool
    owner: str
    observe: Observe | None
    queued_ns: int

    def advance(self) -> tuple[int, Floats | None]:
        """Run one step; returns the rows (token positions) that went through, and the result once it is
        whole.
        """

    def undo(self) -> None:
        """Put the session back to where it was before the call, after a step failed or the call was
        abandoned.
        """


class ForwardWork:
    """Append tokens to a sequence, at most `chunk` of them a step, so that a long prompt does not hold up
    the others.

    The cuts depend on the request alone, never on its neighbours: a cut changes how the matrix products are
    rounded, and the same request has to give the same bits on a busy and on an idle server.
    """

    def __init__(
        self, transformer: Transformer, cache: KVCache, ids: NDArray[np.uint32], rows: int, chunk: int
    ) -> None:
        self.future: Future[Floats] = Future()
        self.abandoned = False
        self.owner = ""
        self.observe: Observe | None = None
        self.queued_ns = 0
        self._transformer = transformer
        self._cache = cache
        self._start = cache.length
        self._ids = ids
        self._rows = rows
        self._chunk = chunk
        self._done = 0
        self._logits: list[Floats] = []

    def advance(self) -> tuple[int, Floats | None]:
        """One chunk: [T] ids -> [rows of it, V] logits, kept until the last chunk is through."""
        ids = self._ids[self._done : self._done + self._chunk]
        self._done += len(ids)
        wanted = self._done - (len(self._ids) - self._rows)
        rows = min(max(wanted, 0), len(ids))
        logits = self._transformer.forward(ids, self._cache, rows)
        self._logits.append(to_float32(self._transformer, logits))
        whole = self._done == len(self._ids)
        return len(ids), np.concatenate(self._logits) if whole else None

    def undo(self) -> None:
        """Forget the chunks that went through."""
        self._cache.truncate(self._start)


class CallWork:
    """A call that is one step: what ABI v1 asks layer by layer. A failed layer leaves its cache as the
    model left it.
    """

    def __init__(self, call: Callable[[], Floats], rows: int) -> None:
        self.future: Future[Floats] = Future()
        self.abandoned = False
        self.owner = ""
        self.observe: Observe | None = None
        self.queued_ns = 0
        self._call = call
        self._rows = rows

    def advance(self) -> tuple[int, Floats | None]:
        """Run the call. The hidden states are the guest's: NaN, infinities and overflows are what it gets."""
        with np.errstate(all="ignore"):
            return self._rows, self._call()

    def undo(self) -> None:
        """Nothing to put back: the cache drops what it held from a repeated position on."""


def to_float32(transformer: Transformer, array: object) -> Floats:
    """A backend's array as host float32, the one type that crosses the ABI (also in float64 oracle mode)."""
    return transformer.arrays.to_numpy(array).astype(np.float32, copy=False)
