"""The live view of a running test: a few lines, redrawn on a terminal, now and then one line in a log."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import Any, Final, Self

from realm_loadtests.report.text import number

LOG_INTERVAL_S = 10.0
_BAR: Final = 24


class Progress:
    """Shows the states that the locust process reports each second, on standard error.

    A context manager, so that the lines are gone before anything else is written.
    """

    def __init__(self, duration_s: float) -> None:
        self._duration_s = duration_s
        self._started: float | None = None
        self._redraws = sys.stderr.isatty()
        self._last_line = -LOG_INTERVAL_S
        self._drawn = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._redraws:
            self._redraw([])

    def show(self, state: dict[str, Any]) -> None:
        """Take the newest state."""
        now = time.monotonic()
        if self._started is None:
            self._started = now
        elapsed = now - self._started
        if self._redraws:
            self._redraw(progress_view(state, self._duration_s))
        elif elapsed - self._last_line >= LOG_INTERVAL_S:
            self._last_line = elapsed
            print(progress_line(state, self._duration_s), file=sys.stderr, flush=True)

    def _redraw(self, lines: list[str]) -> None:
        """Put these lines where the last ones are; each cut to the terminal's width, or it would take two."""
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        width = shutil.get_terminal_size().columns - 1
        text = "".join(f"{line[:width]}\n" for line in lines)
        print(f"{up}\r\x1b[J{text}", end="", file=sys.stderr, flush=True)
        self._drawn = len(lines)


def progress_view(state: dict[str, Any], duration_s: float) -> list[str]:
    """A running test in four lines: how far it is, what is under way, latencies so far, failures."""
    full = round(_BAR * min(1.0, state["elapsed_s"] / duration_s))
    rate = state["tokens"] / state["elapsed_s"] if state["elapsed_s"] > 0 else None
    errors = ", ".join(f"{kind} {count}" for kind, count in state["errors"].items())
    return [
        f"  {'#' * full}{'.' * (_BAR - full)}  {_phase(state, duration_s)}",
        f"  {_load(state)}   {state['completed']} done   {number(rate)} tokens/s",
        f"  so far   {_latencies(state)}",
        f"  {state['failed']} failed{f': {errors}' if errors else ''}",
    ]


def progress_line(state: dict[str, Any], duration_s: float) -> str:
    """The same in one line."""
    return (
        f"{_phase(state, duration_s)}  {_load(state)}  {state['completed']} done  {state['failed']} failed  "
        f"{_latencies(state)}"
    )


def _phase(state: dict[str, Any], duration_s: float) -> str:
    if state["stopping"]:
        return "draining"
    return f"{min(state['elapsed_s'], duration_s):.0f}/{duration_s:.0f} s"


def _load(state: dict[str, Any]) -> str:
    """The streams that are open, where one process has them all and knows."""
    return f"{state['users']} users" if state["open"] is None else f"{state['open']} streams open"


def _latencies(state: dict[str, Any]) -> str:
    each = []
    for name in ("ttft", "itl"):
        p50, p99 = (_milliseconds(state[f"{name}_{rank}_us"]) for rank in ("p50", "p99"))
        each.append(f"{name.upper()} p50 {p50} p99 {p99}")
    return "   ".join(each)


def _milliseconds(value_us: float | None) -> str:
    return "-" if value_us is None else f"{number(value_us / 1000)} ms"
