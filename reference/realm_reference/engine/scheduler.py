"""Who is in the next step: fair between owners, within a budget of positions, on pages that are there.

Sequences join and leave at every step (continuous batching, Orca,
https://www.usenix.org/conference/osdi22/presentation/yu). Each that is in a step has one position at least;
what is left of the budget goes to prompts, cut into chunks (https://arxiv.org/abs/2403.02310), so that a long
prompt never holds up the tokens of others for long.

When pages run out, those of the sequence that was opened last are taken, and it computes them again when
there is room: the one that was opened first always goes on, so all come to their end.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from realm_abi.errors import AbiError

from realm_reference.engine.fairqueue import FairQueue, Shares
from realm_reference.engine.pages import PagePool
from realm_reference.engine.sequence import Sequence, pages_for
from realm_reference.engine.work import Call, EngineCounters, Forward, Outcome, Work
from realm_reference.model.runner import PAGE, Chunk

# A sequence that was in none of so many steps, and asks for none, may lose its pages to any other.
_RESTING_STEPS: Final = 8


@dataclass(frozen=True)
class EngineLimits:
    """`batch` sequences in a step at most, each with one position, and `step_rows` positions beyond these;
    `prefill_chunk` positions of one sequence at most; `pages` in the KV cache of all.
    """

    batch: int
    step_rows: int
    prefill_chunk: int
    pages: int


@dataclass
class Batch:
    """The forwards of a step with their chunks, and the pages to copy before it, (from, to)."""

    works: list[Forward] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)

    def add(self, work: Forward, end: int) -> None:
        """`work`'s sequence takes part up to position `end`."""
        self.works.append(work)
        self.chunks.append(work.sequence.chunk(end, work.rows_until(end)))


class Scheduler:
    """All sequences, the work that waits, and the pages. Not thread-safe: the loop's lock guards it."""

    def __init__(self, limits: EngineLimits, shares: Shares) -> None:
        self.limits = limits
        self.pool = PagePool(limits.pages)
        self.sequences: dict[int, Sequence] = {}
        self.queue: FairQueue[Work] = FairQueue()
        self.shares = shares
        self.counters = EngineCounters()
        self._opened = 0
        self._steps = 0
        self._row_seconds = 1e-4  # what a position costs, for turns within a step; measured as steps go by

    def put(self, work: Work) -> None:
        """`work` waits for its turn."""
        work.queued_ns = time.perf_counter_ns()
        work.sequence.asking = True
        self.shares.arrive(work.sequence.owner)
        self.queue.put(work.sequence.owner, work)

    def next(self) -> Batch | Call | None:
        """What to do now, taken out of the queue; None if nothing can be done before something changes."""
        self._steps += 1
        batch, left = Batch(), self.limits.step_rows
        ahead: dict[str, float] = defaultdict(float)
        for work in self.queue.in_order(lambda owner: self.shares.used(owner) + ahead[owner]):
            if isinstance(work, Call):
                if batch.works:
                    continue
                self._begin(work)
                return work
            end = self._admit(work, left, batch)
            if end > work.sequence.computed:
                left -= end - work.sequence.computed - 1
                ahead[work.sequence.owner] += (end - work.sequence.computed) * self._row_seconds
                batch.add(work, end)
            if len(batch.works) == self.limits.batch:
                break
        if not batch.works:
            self._rescue(batch)
        for work in batch.works:
            self._begin(work)
        return batch if batch.works else None

    def settle(self, work: Work, count: int, outcome: Outcome) -> Outcome | None:
        """What came of `work` with `count` positions; None if there is more to do, and it waits again."""
        result = outcome if isinstance(outcome, AbiError) else work.take(self.pool, count, outcome)
        if result is None:
            self.put(work)
            return None
        if isinstance(result, AbiError):
            work.undo(self.pool)
        work.sequence.asking = False
        return result

    def charge(self, rows: dict[str, int], seconds: float) -> None:
        """A step with so many positions of each owner took so long."""
        total = sum(rows.values()) or 1  # a layer-wise call may be of no rows
        self._row_seconds = seconds / total
        for owner, count in rows.items():
            self.shares.charge(owner, seconds * count / total)

    def make_room(self, call: Call) -> bool:
        """See that the pages of a layer-wise call are there; False if they cannot be had."""
        sequence = call.sequence
        missing = pages_for(call.positions) - len(sequence.pages)
        while self.pool.available < missing:
            if not self._preempt(sequence, Batch(), resting=_RESTING_STEPS):
                return False
        sequence.pages.extend(self.pool.take() for _ in range(missing))
        return True

    def open(self, owner: str, adapter: int, salt: str, *, cuts: list[int] | None) -> Sequence:
        """A new, empty sequence."""
        sequence = Sequence(self._opened, owner, adapter, salt, cuts=cuts)
        self.sequences[sequence.number] = sequence
        self._opened += 1
        return sequence

    def fork(self, original: Sequence) -> Sequence:
        """Another with the same tokens. Both read the same pages; who writes to one first takes a copy."""
        twin = original.twin(self._opened, self.pool)
        self.sequences[twin.number] = twin
        self._opened += 1
        return twin

    def close(self, sequence: Sequence) -> None:
        """Its pages go back."""
        sequence.drop(self.pool)
        del self.sequences[sequence.number]

    def _begin(self, work: Work) -> None:
        owner = work.sequence.owner
        self.queue.remove(owner, work)
        self.queue.served(owner)
        self.shares.begin(owner)

    def _admit(self, work: Forward, left: int, batch: Batch, *, resting: int = _RESTING_STEPS) -> int:
        """Where `work`'s sequence will be after this step, with `left` positions to spare and its pages seen
        to; where it is now if it has to wait.
        """
        sequence = work.sequence
        self.counters.prefix_hit_tokens += sequence.find_prefix(self.pool, work.reusable)
        end = sequence.next_cut(min(left + 1, self.limits.prefill_chunk))
        # A crumb of a prompt is not worth a place; the next step has room again.
        crumb = end < len(sequence.tokens) and end - sequence.computed < PAGE and left < self.limits.step_rows
        if crumb or not self._place(sequence, batch, resting):
            return sequence.computed
        sequence.last_step = self._steps
        return end

    def _place(self, sequence: Sequence, batch: Batch, resting: int) -> bool:
        """Give the sequence the pages for all of its tokens, at once: it never gets stuck half-way."""
        missing = pages_for(len(sequence.tokens)) - len(sequence.pages)
        inside = sequence.computed % PAGE > 0
        while self.pool.available < missing + (inside and self.pool.shared(sequence.written)):
            if not self._preempt(sequence, batch, resting):
                return False
        sequence.pages.extend(self.pool.take() for _ in range(missing))
        if inside and self.pool.shared(sequence.written):
            batch.copies.append(sequence.replace_written(self.pool))
        elif inside:
            self.pool.forget(sequence.written)
        return True

    def _preempt(self, asker: Sequence, batch: Batch, resting: int) -> bool:
        """Take the pages of one that has done nothing for `resting` steps, or else of the one that was opened
        last after the asker; whether there was one.
        """
        taking_part = {work.sequence.number for work in batch.works} | {asker.number}
        others = [
            sequence
            for sequence in self.sequences.values()
            if sequence.pages and not sequence.pinned and sequence.number not in taking_part
        ]
        idle = [s for s in others if not s.asking and self._steps - s.last_step >= resting]
        younger = [s for s in others if s.number > asker.number]
        if idle:
            victim = min(idle, key=lambda sequence: sequence.last_step)
        elif younger:
            victim = max(younger, key=lambda sequence: sequence.number)
        else:
            return False
        victim.drop(self.pool)
        self.counters.preemptions += 1
        return True

    def _rescue(self, batch: Batch) -> None:
        """Nobody found room, so the one that was opened first gets it, even from those that rest shortly."""
        works = [work for work in self.queue if isinstance(work, Forward)]
        if works:
            oldest = min(works, key=lambda work: work.sequence.number)
            end = self._admit(oldest, self.limits.step_rows, batch, resting=0)
            if end > oldest.sequence.computed:
                batch.add(oldest, end)
