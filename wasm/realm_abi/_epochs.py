"""A clock for guests: ticks the engine's epoch while any guest runs, and sleeps not at all otherwise."""

from __future__ import annotations

import math
import threading
import time
from types import TracebackType

import wasmtime


class EpochClock:
    """Counts time in ticks of `period` seconds; `with clock:` around everything that a guest may hang in."""

    def __init__(self, engine: wasmtime.Engine, period: float = 0.01) -> None:
        self._engine = engine
        self._period = period
        self._lock = threading.Lock()
        self._running = 0
        self._thread: threading.Thread | None = None

    def ticks(self, seconds: float) -> int:
        """Ticks that a deadline in `seconds` is away: never early, at most two periods late."""
        return math.ceil(seconds / self._period) + 1

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
