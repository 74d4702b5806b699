"""A running generation: a bounded buffer between the guest's thread, which fills it, and a coroutine, which
reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from realm_reference.engine import StepRecord
from realm_reference.orchestration.events import (
    End,
    Event,
    Failed,
    FailureKind,
    Finished,
    PromptScored,
    Token,
)

# Tokens that may wait for a reader. Past that the guest waits, and after STALL_SECONDS the reader is given
# up.
BUFFERED_TOKENS: Final = 256
STALL_SECONDS: Final = 30.0

# Of a generation's steps the first of these are kept, and then each time after so many.
FIRST_STEPS: Final = 8
LATER_STEPS: Final = 32

DEADLINE: Final = Failed(FailureKind.DEADLINE, "The request took longer than this server allows.")


class Generation:
    """Events for one reader on the event loop that it was made on; `cancel` from any thread.

    The end is decided once, by whoever comes first: the guest that returns, a cancellation, a failed check.
    """

    def __init__(self, wall_seconds: float, stall_seconds: float = STALL_SECONDS) -> None:
        """`wall_seconds` is the deadline of the whole, queue included."""
        self._loop = asyncio.get_running_loop()
        self._stall_seconds = stall_seconds
        self._deadline = self._loop.call_later(wall_seconds, self.cancel, DEADLINE)
        self.created_ns = time.perf_counter_ns()
        self.queue_seconds: float | None = None
        self.steps: list[StepRecord] = []
        self._steps_taken = 0
        self._wake = asyncio.Event()
        self._events: deque[Event] = deque()
        self._changed = threading.Condition()
        self._cause: Failed | None = None
        self._cancelled = False
        self._ended = False
        self._cancel_callbacks: list[Callable[[], None]] = []

    # ------------------------------------------------------------------------------ the reader's side

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Event]:
        while True:
            event = await self.next_event()
            yield event
            if isinstance(event, Finished | Failed):
                return

    async def next_event(self) -> Event:
        """The next event, waiting for it. Safe to cancel (a timeout): no event is lost."""
        while True:
            with self._changed:
                if self._events:
                    self._changed.notify_all()
                    return self._events.popleft()
                self._wake.clear()
            await self._wake.wait()

    # --------------------------------------------------------------------------------- from any thread

    def cancel(self, cause: Failed | None = None) -> None:
        """Stop the work: without a `cause` because nobody wants it any more, with one as a failure. Later
        calls do nothing.
        """
        with self._changed:
            if self._cancelled or self._ended:
                return
            self._cancelled = True
            self._cause = cause
            callbacks, self._cancel_callbacks = self._cancel_callbacks, []
            self._changed.notify_all()
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call `callback` (quick, from any thread) when the work is to stop; at once if it already is."""
        with self._changed:
            if not self._cancelled:
                self._cancel_callbacks.append(callback)
                return
        callback()

    @property
    def cancelled(self) -> bool:
        """Whether the work is to stop."""
        return self._cancelled

    @property
    def cause(self) -> Failed | None:
        """The failure that stopped it, if it was one."""
        return self._cause

    # ------------------------------------------------------------------------------- the guest's side

    def start(self) -> None:
        """A guest thread has taken the request out of the queue."""
        self.queue_seconds = (time.perf_counter_ns() - self.created_ns) / 1e9

    def stepped(self, record: StepRecord) -> None:
        """The engine took a step for it. The first of them are kept and then a few, for traces."""
        self._steps_taken += 1
        if self._steps_taken <= FIRST_STEPS or self._steps_taken % LATER_STEPS == 0:
            self.steps.append(record)

    def put(self, token: PromptScored | Token) -> None:
        """Hand on a token, waiting while the buffer is full; a reader that takes nothing for too long is
        given up.
        """
        with self._changed:
            room = self._changed.wait_for(
                lambda: len(self._events) < BUFFERED_TOKENS or self._cancelled, self._stall_seconds
            )
            if room and not self._cancelled:
                self._events.append(token)
        if room:
            self._notify()
        else:
            self.cancel(Failed(FailureKind.SLOW_READER, "The client does not read its answer."))

    def end(self, end: End) -> None:
        """The last event; whatever comes later is dropped."""
        with self._changed:
            if self._ended:
                return
            self._ended = True
            self._cancel_callbacks.clear()
            self._events.append(end)
        self._notify(self._deadline.cancel)
        self._notify()

    def _notify(self, call: Callable[[], None] | None = None) -> None:
        # The loop may be gone when a server is torn down with a guest still on its way out; then nobody
        # reads.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call or self._wake.set)
