"""The step loop: one thread that runs the model, a batch at a time.

Why one thread: the model's arithmetic already uses every core, so two steps at once would only fight over
them; and one place that sees all ready work is what continuous batching needs. It decides nothing: who is in
a step is the scheduler's business.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Final

import numpy as np
from realm_abi.errors import AbiError, ErrorCode

from realm_reference.engine.aside import Aside
from realm_reference.engine.faults import cancelled, closed, fault_of
from realm_reference.engine.scheduler import Batch, Scheduler
from realm_reference.engine.sequence import Sequence
from realm_reference.engine.work import Call, Observe, Outcome, StepRecord, Work
from realm_reference.model.runner import Chunk, Runner

# Whoever had a token from the last step is about to ask for the next one. The loop waits for them, up to this
# part of what the step took: or else they would fall apart into several batches.
PATIENCE: Final = 0.25

Part = tuple[Work, int, Outcome]
"""A piece of work, its positions in the step, and what came of it."""


class StepLoop:
    """Takes work from any thread, runs it on its own, and completes the work's futures."""

    def __init__(self, runner: Runner, scheduler: Scheduler, on_step: Observe | None = None) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._on_step = on_step
        self._changed = threading.Condition()
        self._closed = False
        self._beats = 0  # ends of steps and wakings, for `responds`
        self._asides: deque[Aside] = deque()
        self._due: set[int] = set()  # sequences that had something from the last step
        self._patient_until = 0.0
        self._thread = threading.Thread(target=self._run, name="engine-step-loop", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Pieces of work in the queue, without those that are running."""
        return len(self._scheduler.queue)

    @property
    def alive(self) -> bool:
        """Whether the thread still takes steps."""
        return self._thread.is_alive() and not self._closed

    @contextmanager
    def scheduling(self) -> Iterator[Scheduler]:
        """The scheduler for oneself alone; the loop looks again when it was let go."""
        with self._changed:
            yield self._scheduler
            self._changed.notify_all()

    def close_sequence(self, sequence: Sequence) -> None:
        """Give its pages back; nothing of it may be waiting."""
        with self.scheduling() as scheduler:
            self._due.discard(sequence.number)
            scheduler.close(sequence)

    def submit(self, work: Work) -> None:
        """Queue `work`; the loop completes its future. Raises `internal` when the loop is closed."""
        with self._changed:
            if self._closed:
                raise closed()
            work.begin(self._scheduler.limits.prefill_chunk)
            self._scheduler.put(work)
            self._due.discard(work.sequence.number)
            if not self._due:
                self._changed.notify_all()

    def abandon(self, work: Work) -> None:
        """Nobody wants `work` any more: out of the queue at once, or after the step that it is in."""
        with self._changed:
            work.abandoned = True
            waited = self._scheduler.queue.remove(work.sequence.owner, work)
            if waited:
                self._scheduler.settle(work, 0, cancelled())
        if waited:
            work.complete(cancelled())

    def between_steps(self, call: Callable[[], None]) -> Future[None]:
        """Have `call` made on the loop's thread while no step runs. Calls keep their order. When the loop is
        closed it is not made, and the future has `internal`.
        """
        aside = Aside(call, Future())
        with self._changed:
            if self._closed:
                aside.made.set_exception(closed())
            else:
                self._asides.append(aside)
                self._changed.notify_all()
        return aside.made

    def responds(self, seconds: float) -> bool:
        """Whether the thread ends a step within `seconds`, or wakes when it has none to take."""
        with self._changed:
            before = self._beats
            self._changed.notify_all()
            turned = self._changed.wait_for(lambda: self._beats != before or self._closed, seconds)
            return turned and not self._closed

    def close(self) -> None:
        """Finish the running step, fail what waits, end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    # ------------------------------------------------------------------------------ on the loop's thread

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if isinstance(job, Aside):
                job.run()
                continue
            begin = time.perf_counter_ns()
            if isinstance(job, Call):
                parts: list[Part] = [(job, job.rows, self._call(job))]
            else:
                counts = [len(chunk.ids) for chunk in job.chunks]
                parts = list(zip(job.works, counts, self._step(job), strict=True))
            self._settle(parts, begin, (time.perf_counter_ns() - begin) / 1e9)
        for work in list(self._scheduler.queue):
            work.complete(closed())
        for aside in self._asides:
            aside.made.set_exception(closed())

    def _next(self) -> Batch | Call | Aside | None:
        with self._changed:
            while not self._closed:
                self._beats += 1
                self._changed.notify_all()
                if self._asides:
                    return self._asides.popleft()
                left = self._patience_left()
                if self._scheduler.queue and left is None:
                    job = self._scheduler.next()
                    if job is not None:
                        return job
                self._changed.wait(left)
            return None

    def _patience_left(self) -> float | None:
        """Seconds to wait for those that are about to ask again; None if nobody is waited for."""
        left = self._patient_until - time.perf_counter()
        if not self._due or left <= 0:
            self._due.clear()
            return None
        return left

    def _call(self, call: Call) -> Outcome:
        with self._changed:
            room = self._scheduler.make_room(call)
        if not room:
            return AbiError(ErrorCode.out_of_memory, "the KV cache has no page left")
        try:
            return call.run()
        except Exception as error:
            return fault_of(error)

    def _step(self, batch: Batch) -> list[Outcome]:
        """What each chunk gave, [rows, V]. If the step fails, each goes alone: a fault is one sequence's."""
        try:
            for source, target in batch.copies:
                self._runner.copy_page(source, target)
        except Exception as error:
            return [fault_of(error)] * len(batch.works)
        try:
            logits = self._runner.step(batch.chunks)
        except Exception as error:
            if len(batch.chunks) == 1:
                return [fault_of(error)]
            return [self._alone(chunk) for chunk in batch.chunks]
        return [*np.split(logits, np.cumsum([chunk.rows for chunk in batch.chunks])[:-1])]

    def _alone(self, chunk: Chunk) -> Outcome:
        try:
            return self._runner.step([chunk]).copy()
        except Exception as error:
            return fault_of(error)

    def _settle(self, parts: list[Part], begin: int, seconds: float) -> None:
        self._record(parts, begin, seconds)
        with self._changed:
            rows: dict[str, int] = defaultdict(int)
            done = []
            for work, count, outcome in parts:
                rows[work.sequence.owner] += count
                result = self._scheduler.settle(work, count, cancelled() if work.abandoned else outcome)
                if result is not None:
                    done.append((work, result))
            self._scheduler.charge(rows, seconds)
            if self._scheduler.limits.batch > 1:
                self._due.update(
                    work.sequence.number for work, result in done if not isinstance(result, AbiError)
                )
                self._patient_until = time.perf_counter() + PATIENCE * seconds
        for work, result in done:
            work.complete(result)

    def _record(self, parts: list[Part], begin: int, seconds: float) -> None:
        """Counters and observers first: who is woken by the step finds them as they are after it."""
        counters = self._scheduler.counters
        counters.steps += 1
        counters.sequences += len(parts)
        counters.step_seconds += seconds
        records = []
        for work, count, outcome in parts:
            counters.rows += count
            counters.failed_steps += isinstance(outcome, AbiError) and not work.abandoned
            record = StepRecord(begin, count, seconds, (begin - work.queued_ns) / 1e9)
            records.append(record)
            if work.observe is not None:
                work.observe(record)
        if self._on_step is not None:
            waited = max(record.queued_seconds for record in records)
            rows = sum(record.rows for record in records)
            self._on_step(StepRecord(begin, rows, seconds, waited, len(parts)))
