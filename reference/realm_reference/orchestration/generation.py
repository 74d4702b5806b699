"""A running generation: a bounded buffer between a guest, which fills it, and a coroutine, which reads it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
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
        self._lock = threading.Lock()
        self._held: tuple[PromptScored | Token, Future[None]] | None = None  # what finds no room
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
            with self._lock:
                event = self._events.popleft() if self._events else None
                held = self._take_held()
                if event is None:
                    self._wake.clear()
            if held is not None:
                held.set_result(None)
            if event is not None:
                return event
            await self._wake.wait()

    def _take_held(self) -> Future[None] | None:
        """Let the token in that waits for room, if there is one and some; its future, to be completed."""
        if self._held is None or len(self._events) >= BUFFERED_TOKENS:
            return None
        (token, waiting), self._held = self._held, None
        self._events.append(token)
        return waiting

    # --------------------------------------------------------------------------------- from any thread

    def cancel(self, cause: Failed | None = None) -> None:
        """Stop the work: without a `cause` because nobody wants it any more, with one as a failure. Later
        calls do nothing.
        """
        with self._lock:
            if self._cancelled or self._ended:
                return
            self._cancelled = True
            self._cause = cause
            callbacks, self._cancel_callbacks = self._cancel_callbacks, []
            held, self._held = self._held, None
        if held is not None:
            held[1].set_result(None)
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call `callback` (quick, from any thread) when the work is to stop; at once if it already is."""
        with self._lock:
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
        """A guest has taken the request out of the queue."""
        self.queue_seconds = (time.perf_counter_ns() - self.created_ns) / 1e9

    def stepped(self, record: StepRecord) -> None:
        """The engine took a step for it. The first of them are kept and then a few, for traces."""
        self._steps_taken += 1
        if self._steps_taken <= FIRST_STEPS or self._steps_taken % LATER_STEPS == 0:
            self.steps.append(record)

    def put(self, token: PromptScored | Token) -> Future[None] | None:
        """Hand on a token. While the buffer is full it finds no room: then a future is completed when it has,
        or when the work is to stop; no other may be handed on before. A reader that takes nothing for too
        long is given up.
        """
        with self._lock:
            if self._cancelled:
                return None
            if len(self._events) < BUFFERED_TOKENS:
                self._events.append(token)
                waiting = None
            else:
                waiting = Future[None]()
                self._held = (token, waiting)
        if waiting is None:
            self._notify()
        else:
            try:
                self._loop.call_soon_threadsafe(self._expect_room, waiting)
            except RuntimeError:  # the loop is gone, and with it whoever read
                self.cancel()
        return waiting

    def _expect_room(self, waiting: Future[None]) -> None:
        """On the event loop: the reader has so long to make room."""
        stalled = Failed(FailureKind.SLOW_READER, "The client does not read its answer.")
        giving_up = self._loop.call_later(self._stall_seconds, self.cancel, stalled)
        waiting.add_done_callback(lambda _: self._notify(giving_up.cancel))

    def end(self, end: End) -> None:
        """The last event; whatever comes later is dropped."""
        with self._lock:
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
