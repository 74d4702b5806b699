"""Child processes that are watched while they run and never outlive us.

Each child leads a session of its own, so that a Ctrl-C on the terminal reaches this process alone and *we*
end the children, in order and with their own children (locust has workers), by their process group. POSIX
only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import IO, Self

GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.1
_TAIL_LINES = 20
_MAX_LINE = 2_000


class StillRunning(Exception):
    """The child did not end in the time that it had."""


def realm_command(*arguments: str) -> list[str]:
    """A `realm` command line run by this Python; -P keeps the current folder off the import path."""
    return [sys.executable, "-P", "-m", "realm_harness", *arguments]


class Child:
    """A running child process; its output, stdout and stderr together, goes line by line to `on_line`.

    A context manager: leaving it ends the process, whatever happened.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], on_line: Callable[[str], None]
    ) -> None:
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._on_line = on_line
        self._reader = threading.Thread(target=self._read, name="child output", daemon=True)
        with _signals_deferred() as deferred:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._reader.start()
            if deferred:
                self.stop()

    @property
    def pid(self) -> int:
        """The child's process id, which is its process group's too."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code once the child has ended, None before."""
        return self._process.poll()

    def wait(self, seconds: float, on_wait: Callable[[], None] = lambda: None) -> int:
        """The exit code; `on_wait` is called ten times a second meanwhile. Raises StillRunning in the end."""
        deadline = time.monotonic() + seconds
        while (code := self._process.poll()) is None:
            if time.monotonic() > deadline:
                raise StillRunning(f"still running after {seconds:.0f} s")
            on_wait()
            time.sleep(_POLL_SECONDS)
        self._reader.join(timeout=2)
        return code

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Ask the child to end (SIGTERM), then end its whole process group (SIGKILL), and reap it."""
        try:
            if self._process.poll() is None:
                self._process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(grace)
        finally:
            # Also when a second Ctrl-C cuts the grace short; and the group may hold children of an ended
            # child.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(timeout=2)
        if self._process.stdout and not self._reader.is_alive():
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in _lines(self._process.stdout):
            self.tail.append(line)
            self._on_line(line)


@contextmanager
def _signals_deferred() -> Iterator[list[int]]:
    """Hold a Ctrl-C or SIGTERM back until the block has ended, and tell the block that one came.

    What it interrupted would be `Popen`'s own code, which may have started the process by then and would
    forget it. The signal mask would do the same, but the child would inherit it.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came  # Python runs signal handlers on the main thread only: none interrupts this one
        return

    def remember(number: int, frame: FrameType | None) -> None:
        came.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, remember) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for missed in dict.fromkeys(came):
            signal.raise_signal(missed)


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """The lines of a stream without their ends; a line without an end in sight comes in pieces."""
    while piece := stream.readline(_MAX_LINE):
        yield piece.decode("utf-8", "replace").rstrip("\r\n")
