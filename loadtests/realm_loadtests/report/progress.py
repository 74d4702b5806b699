"""The live view of a running test: one line, redrawn on a terminal, now and then a line in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

from realm_loadtests.report.text import number

LOG_INTERVAL_S = 10.0


class Progress:
    """Shows the states that the locust process reports each second, on standard error.

    A context manager, so that the line is gone before anything else is written.
    """

    def __init__(self, duration_s: float) -> None:
        self._duration_s = duration_s
        self._started: float | None = None
        self._redraws = sys.stderr.isatty()
        self._last_line = -LOG_INTERVAL_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._redraws and self._started is not None:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def show(self, state: dict[str, Any]) -> None:
        """Take the newest state."""
        now = time.monotonic()
        if self._started is None:
            self._started = now
        elapsed = now - self._started
        if self._redraws:
            print(f"\r\x1b[K{progress_line(state, self._duration_s)}", end="", file=sys.stderr, flush=True)
        elif elapsed - self._last_line >= LOG_INTERVAL_S:
            self._last_line = elapsed
            print(progress_line(state, self._duration_s), file=sys.stderr, flush=True)


def progress_line(state: dict[str, Any], duration_s: float) -> str:
    """One line on a running test."""
    phase = (
        "draining" if state["stopping"] else f"{min(state['elapsed_s'], duration_s):.0f}/{duration_s:.0f} s"
    )
    return (
        f"{phase}  {state['users']} users  {state['completed']} done  {state['failed']} failed  "
        f"TTFT p50 {_milliseconds(state['ttft_p50_us'])}  "
        f"ITL p50 {_milliseconds(state['itl_p50_us'])} p99 {_milliseconds(state['itl_p99_us'])}"
    )


def _milliseconds(value_us: float | None) -> str:
    return "-" if value_us is None else f"{number(value_us / 1000)} ms"
