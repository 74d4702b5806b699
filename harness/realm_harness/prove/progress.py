"""The run as a person or a CI log sees it: numbered steps, what each one says, how long it took."""

from __future__ import annotations

import threading
import time

import click

from realm_harness.report.figures import duration
from realm_harness.report.text import redact, visible

_QUIET_SECONDS = 15.0


class Progress:
    """Prints steps. Lines only, no cursor movement: the same text reads well in both places."""

    def __init__(self, steps: int, *, secret: str | None, hidden: str) -> None:
        self._hidden = hidden
        self._steps = steps
        self._step = 0
        self._secret = secret
        self._begun = self._last = time.monotonic()
        self._lock = threading.Lock()

    def step(self, text: str) -> None:
        """Begin the next step."""
        self._step += 1
        self._begun = time.monotonic()
        self._print(click.style(f"[{self._step}/{self._steps}] {text}", bold=True))

    def line(self, text: str) -> None:
        """Relay one line of a child's output; it may hold the tested server's words.

        Lines that send the reader to the run's temporary folder are left out: its files go into the report.
        """
        if text.strip() and self._hidden not in text:
            self._print("      " + visible(redact(click.unstyle(text), self._secret)))

    def heartbeat(self) -> None:
        """Say that the step still runs when nothing was printed for a while."""
        if time.monotonic() - self._last > _QUIET_SECONDS:
            self._print(f"      … {duration(time.monotonic() - self._begun)}")

    def done(self, text: str = "done") -> None:
        """End the step."""
        self._print(f"      {text} in {duration(time.monotonic() - self._begun)}")

    def _print(self, text: str) -> None:
        with self._lock:
            self._last = time.monotonic()
            click.echo(text)
