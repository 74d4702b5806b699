"""Who takes the steps of guests: a thread for each of them, or one thread for all.

A guest's host calls that wait say so in steps (`realm_abi.steps`), so waiting need not cost a thread. On
fibers hundreds of guests share one, and the way from a token to the next costs no switch between threads. It
needs functions of wasmtime that not every release has; where they are missing there are threads.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Protocol

from realm_abi.steps import Aside, Steps, finish

log = logging.getLogger(__name__)


class Crew(Protocol):
    """Takes steps to their ends, each guest's beside the others'."""

    def start(self, steps: Steps[None]) -> None:
        """Take these from now on. They must not raise."""

    def close(self) -> None:
        """Wait for all to end."""


class Threads:
    """A thread for each, of which there are `size`."""

    def __init__(self, size: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="guest")

    def start(self, steps: Steps[None]) -> None:
        """Needs a runtime without fibers or with, it is the same."""
        self._pool.submit(finish, steps)

    def close(self) -> None:
        """Wait for all to end."""
        self._pool.shutdown()


class Fibers:
    """One thread for all, which is there while there are any; up to `size` others for work aside.

    Whoever was waited for and is there goes on first, all of them; then one of those that would go on
    computing, for one turn. So a guest that asks and waits is held up by one turn at most, however many
    compute without end, and those come to their turns too.
    """

    def __init__(self, size: int) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="guests")
        self._helpers = ThreadPoolExecutor(size, thread_name_prefix="guests-aside")
        self._woken: SimpleQueue[Steps[None]] = SimpleQueue()
        self._computing: deque[Steps[None]] = deque()
        self._lock = threading.Lock()
        self._alive = 0

    def start(self, steps: Steps[None]) -> None:
        """From any thread. The runtime that they use has to have fibers."""
        with self._lock:
            if not self._alive:
                self._thread.submit(self._run)
            self._alive += 1
            self._woken.put(steps)

    def close(self) -> None:
        """Wait for all to end."""
        self._thread.shutdown()
        self._helpers.shutdown()

    def _run(self) -> None:
        while True:
            for _ in range(self._woken.qsize() or not self._computing):
                self._step(self._woken.get())
            if self._computing:
                self._step(self._computing.popleft())
            with self._lock:
                if not self._alive:
                    return

    def _step(self, steps: Steps[None]) -> None:
        try:
            waited = next(steps)
            if waited is None:
                self._computing.append(steps)
                return
            if isinstance(waited, Aside):
                self._helpers.submit(waited.run)
                waited = waited.done
        except BaseException as error:
            self._end(steps, error)
            return

        def wake(_: Future[Any]) -> None:
            self._woken.put(steps)

        waited.add_done_callback(wake)

    def _end(self, steps: Steps[None], error: BaseException) -> None:
        if not isinstance(error, StopIteration):
            log.error("a guest's steps failed in the host", exc_info=error)
        steps.close()
        with self._lock:
            self._alive -= 1
