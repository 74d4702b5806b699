"""Time for guests: a clock that ticks while any guest runs, and what each guest may use of it."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import wasmtime


class EpochClock:
    """Ticks the engine's epoch every `period` seconds: `with clock:` around whatever a guest may hang in.

    Its thread is there only while guests run or wait in host calls. On a fiber a tick ends a guest's turn.
    """

    def __init__(self, engine: wasmtime.Engine, period: float) -> None:
        self._engine = engine
        self._period = period
        self._lock = threading.Lock()
        self._running = 0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._running += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._tick, name="realm-epochs", daemon=True)
                self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._running -= 1

    def _tick(self) -> None:
        while True:
            time.sleep(self._period)
            with self._lock:
                if not self._running:
                    self._thread = None
                    return
            self._engine.increment_epoch()


class Allowance:
    """What one guest may use: so long between two host calls and, once it is cancelled, a grace in all."""

    def __init__(self, guest_seconds: float, grace_seconds: float) -> None:
        self._guest_seconds = guest_seconds
        self._grace_seconds = grace_seconds
        self._since = 0.0
        self._cancelled_at: float | None = None
        self._in_grace = False

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled_at is not None

    def cancel(self) -> None:
        """The grace begins when the guest computes next, or now if it does."""
        if self._cancelled_at is None:
            self._cancelled_at = time.monotonic()

    def begin(self) -> None:
        """The guest computes from now on: it was entered, or a host call returned to it."""
        if not self._in_grace:
            self._in_grace = self.cancelled
            self._since = time.monotonic()

    def rested(self, since: float) -> None:
        """The guest was not let compute from `since`, a `time.monotonic`, until now."""
        now = time.monotonic()
        self._since += now - since
        if self._cancelled_at is not None:
            self._cancelled_at = min(self._cancelled_at + now - since, now)

    def overdue(self) -> str:
        """What the guest has exceeded, or nothing."""
        now = time.monotonic()
        if self._cancelled_at is not None:
            if now - max(self._since, self._cancelled_at) > self._grace_seconds:
                return f"it ran for {self._grace_seconds} s after it was cancelled"
        elif now - self._since > self._guest_seconds:
            return f"it ran for {self._guest_seconds} s without a host call"
        return ""
