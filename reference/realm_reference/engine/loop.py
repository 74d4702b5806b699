"""The step loop: one thread that runs the model, one step at a time, for whoever has had least of it.

Why one thread: the model's arithmetic already uses every core, so two steps at once would only fight over
them; and one place that sees all ready work is what continuous batching needs. Today a step takes one
session's chunk; a batched ``step(tokens[R], positions[R], slots[R])`` replaces the inside of `_step`, and
nothing outside of this file notices.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from realm_abi.errors import AbiError, ErrorCode

from realm_reference.engine.fairqueue import FairQueue, Shares
from realm_reference.engine.work import Observe, StepRecord, Work

log = logging.getLogger(__name__)


@dataclass
class EngineCounters:
    """Totals since the start; written by the loop's thread alone, so a reader sees each number whole."""

    steps: int = 0
    rows: int = 0
    step_seconds: float = 0.0
    failed_steps: int = 0


class StepLoop:
    """Lines of work, one for each owner, and the thread that serves them. Work with more to do goes back to
    the end of its line: nobody is starved, by others or by oneself.
    """

    def __init__(self, on_step: Observe | None = None, shares: Shares | None = None) -> None:
        self.counters = EngineCounters()
        self._on_step = on_step
        self._ready: FairQueue[Work] = FairQueue()
        self._shares = shares or Shares()
        self._changed = threading.Condition()
        self._closed = False
        self._beats = 0  # ends of steps and wakings, for `responds`
        self._thread = threading.Thread(target=self._run, name="engine-step-loop", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Pieces of work in the queue, without the one that is running."""
        return len(self._ready)

    @property
    def alive(self) -> bool:
        """Whether the thread still takes steps."""
        return self._thread.is_alive() and not self._closed

    def submit(self, work: Work, owner: str, observe: Observe | None = None) -> None:
        """Queue `work`; its future is completed by the loop, or failed at once when the loop is closed."""
        work.owner = owner
        work.observe = observe
        work.queued_ns = time.perf_counter_ns()
        with self._changed:
            if self._closed:
                raise AbiError(ErrorCode.internal, "the engine is closed")
            self._shares.arrive(owner)
            self._ready.put(owner, work)
            self._changed.notify_all()

    def abandon(self, work: Work) -> None:
        """Nobody wants `work` any more: out of the queue at once, or after the step that it is in."""
        with self._changed:
            work.abandoned = True
            if self._ready.remove(work.owner, work):
                self._fail(work, AbiError(ErrorCode.cancelled, "the request was cancelled"))

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

    def _run(self) -> None:
        while (work := self._next()) is not None:
            begin = time.perf_counter_ns()
            self._step(work, begin)
            with self._changed:
                self._shares.charge(work.owner, (time.perf_counter_ns() - begin) / 1e9)
        for work in self._ready:
            self._fail(work, AbiError(ErrorCode.internal, "the engine is closed"))

    def _next(self) -> Work | None:
        with self._changed:
            self._beat()
            while not self._ready and not self._closed:
                self._changed.wait()
                self._beat()
            owner = self._ready.next_owner(self._shares.used)
            if self._closed or owner is None:
                return None
            self._shares.begin(owner)
            return self._ready.take(owner)

    def _beat(self) -> None:
        self._beats += 1
        self._changed.notify_all()

    def _step(self, work: Work, begin: int) -> None:
        """One step for one session. Whatever it raises is that session's alone; the loop goes on."""
        try:
            rows, result = work.advance()
        except AbiError as error:
            self._fail(work, error)
        except ValueError as error:
            self._fail(work, AbiError(ErrorCode.invalid_argument, str(error)))
        except MemoryError:
            self._fail(work, AbiError(ErrorCode.out_of_memory, "no memory for this step"))
        except Exception:
            log.exception("a step failed; its session gets an error, the loop goes on")
            self._fail(work, AbiError(ErrorCode.internal, "the step failed"))
        else:
            self._count(rows, begin, work)
            self._settle(work, result)

    def _settle(self, work: Work, result: object) -> None:
        with self._changed:
            if work.abandoned:
                self._fail(work, AbiError(ErrorCode.cancelled, "the request was cancelled"))
            elif result is None:
                work.queued_ns = time.perf_counter_ns()
                self._ready.put(work.owner, work)
            else:
                work.future.set_result(result)  # type: ignore[arg-type]

    def _fail(self, work: Work, error: AbiError) -> None:
        if error.code is not ErrorCode.cancelled:
            self.counters.failed_steps += 1
        try:
            work.undo()
        except Exception:
            log.exception("a session could not be put back after a failed step")
        work.future.set_exception(error)

    def _count(self, rows: int, begin_ns: int, work: Work) -> None:
        seconds = (time.perf_counter_ns() - begin_ns) / 1e9
        self.counters.steps += 1
        self.counters.rows += rows
        self.counters.step_seconds += seconds
        record = StepRecord(begin_ns, rows, seconds, (begin_ns - work.queued_ns) / 1e9)
        for observe in (self._on_step, work.observe):
            if observe is not None:
                observe(record)
