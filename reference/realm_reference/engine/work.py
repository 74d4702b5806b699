"""What a session asks of the step loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from realm_abi.errors import AbiError

from realm_reference.engine.pages import PagePool
from realm_reference.engine.sequence import Sequence

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class StepRecord:
    """What one step did: when it began (`time.perf_counter_ns`), token positions through the model, its
    seconds, the seconds that its work had waited (the longest, of several), and how many sequences were in
    it.
    """

    begun_ns: int
    rows: int
    seconds: float
    queued_seconds: float
    sequences: int = 1


@dataclass
class EngineCounters:
    """Totals since the start. `rows` are positions through the model, `sequences` the chunks in all steps
    (over `steps`: the mean batch), `prefix_hit_tokens` the positions that others' pages saved. Of
    `draft_tokens` guesses `draft_accepted` came true.
    """

    steps: int = 0
    rows: int = 0
    sequences: int = 0
    step_seconds: float = 0.0
    failed_steps: int = 0
    prefix_hit_tokens: int = 0
    preemptions: int = 0
    draft_tokens: int = 0
    draft_accepted: int = 0


Observe = Callable[[StepRecord], None]


Outcome = Floats | AbiError


class Asked(ABC):
    """A call of one session, which waits for `future`. Abandoned: nobody does any more."""

    def __init__(self, sequence: Sequence, observe: Observe | None) -> None:
        self.future: Future[Floats] = Future()
        self.future.set_running_or_notify_cancel()  # it is abandoned through its session only
        self.sequence = sequence
        self.observe = observe
        self.abandoned = False
        self.queued_ns = 0

    def complete(self, outcome: Outcome) -> None:
        """Wake whoever waits; not under the loop's lock."""
        if isinstance(outcome, AbiError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)

    @abstractmethod
    def begin(self, chunk: int) -> None:
        """The work is in the queue now; a step takes `chunk` positions of a sequence at most."""

    @abstractmethod
    def take(self, pool: PagePool, count: int, result: Floats) -> Floats | None:
        """`count` positions are through, with this result; the whole once there is nothing left to do."""

    @abstractmethod
    def undo(self, pool: PagePool) -> None:
        """Put the sequence back to where it was before the call."""


class Forward(Asked):
    """Append `ids` to a sequence and compute it to its end, in one or more steps, for the logits of its last
    `rows` positions.
    """

    def __init__(self, sequence: Sequence, ids: list[int], rows: int, observe: Observe | None) -> None:
        super().__init__(sequence, observe)
        self.ids = ids
        self.start = len(sequence.tokens)
        self.rows = rows
        self._given: list[Floats] = []

    @property
    def reusable(self) -> int:
        """Positions that need not go through the model if others' pages have them: not the last, and none
        whose logits are wanted.
        """
        return len(self.sequence.tokens) - max(self._wanted, 1)

    def rows_until(self, end: int) -> int:
        """How many of the positions before `end` still have to give their logits."""
        return max(self._wanted - (len(self.sequence.tokens) - end), 0)

    def begin(self, chunk: int) -> None:
        """The tokens are the sequence's from now on."""
        self.sequence.append(self.ids, chunk)

    def take(self, pool: PagePool, count: int, result: Floats) -> Floats | None:
        """`result` [n, V] are the logits of the next of the rows, copied."""
        self.sequence.advance(pool, self.sequence.computed + count)
        self._given.append(result.copy())
        if self.sequence.left:
            return None
        return self._given[0] if len(self._given) == 1 else np.concatenate(self._given)

    def undo(self, pool: PagePool) -> None:
        """Forget the tokens."""
        self.sequence.truncate(pool, self.start)

    @property
    def _wanted(self) -> int:
        return self.rows - sum(map(len, self._given))


class Call(Asked):
    """One call of the runner that is not a step: what ABI v1 asks layer by layer, on `rows` positions.

    It needs the pages of the first `positions` of its sequence.
    """

    def __init__(
        self,
        sequence: Sequence,
        call: Callable[[NDArray[np.int32]], Floats],
        rows: int,
        positions: int,
        observe: Observe | None,
    ) -> None:
        super().__init__(sequence, observe)
        self.rows = rows
        self.positions = positions
        self._call = call

    def run(self) -> Floats:
        """The hidden states are the guest's: NaN, infinities and overflows are what it gets."""
        with np.errstate(all="ignore"):
            return self._call(np.array(self.sequence.pages, np.int32))

    def begin(self, chunk: int) -> None:
        """Nothing to do."""

    def take(self, pool: PagePool, count: int, result: Floats) -> Floats:
        """A call is whole at once."""
        return result

    def undo(self, pool: PagePool) -> None:
        """Nothing to put back: a layer drops what it held from a repeated position on."""


Work = Forward | Call
