"""Child processes: output, exit codes, and that nothing outlives its owner."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from os import environ, kill
from pathlib import Path
from typing import Any

import pytest
from realm_harness.prove.processes import Child, StillRunning

FOREVER = "import time; time.sleep(600)"


def _child(code: str, *arguments: str, lines: list[str] | None = None) -> Child:
    keep = [] if lines is None else lines
    return Child([sys.executable, "-c", code, *arguments], dict(environ), keep.append)


def _is_gone(pid: int) -> bool:
    """No process, or one that ended and waits to be reaped by whoever inherited it."""
    try:
        kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_output_of_both_streams_and_the_exit_code_arrive() -> None:
    lines: list[str] = []
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)"
    with _child(code, lines=lines) as child:
        assert child.wait(60) == 3
        assert list(child.tail) == ["out", "err"]
    assert lines == ["out", "err"]


def test_output_that_is_no_text_and_a_line_without_end_are_bounded() -> None:
    code = "import os; os.write(1, b'\\xff\\xfe\\n' + b'x' * 1_000_000)"
    with _child(code) as child:
        assert child.wait(60) == 0
        assert len(child.tail) <= 20
        assert max(map(len, child.tail)) <= 2_000


def test_a_child_that_takes_too_long_is_told() -> None:
    waits: list[None] = []
    with _child(FOREVER) as child, pytest.raises(StillRunning):
        child.wait(0.5, lambda: waits.append(None))
    assert waits
    assert child.poll() is not None


def test_a_child_that_ignores_sigterm_is_ended() -> None:
    code = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True);" + FOREVER
    )
    with _child(code) as child:
        _wait_for_line(child)
        child.stop(grace=0.2)
        assert child.poll() == -9


def test_grandchildren_go_too(eventually: Callable[[Callable[[], bool]], None]) -> None:
    code = (
        "import subprocess, sys;"
        f"print(subprocess.Popen([sys.executable, '-c', {FOREVER!r}]).pid, flush=True);" + FOREVER
    )
    with _child(code) as child:
        grandchild = int(_wait_for_line(child))
        assert not _is_gone(grandchild)
    eventually(lambda: _is_gone(grandchild))


def test_an_exception_ends_the_child_as_well() -> None:
    child = _child(FOREVER)
    with pytest.raises(KeyboardInterrupt), child:
        raise KeyboardInterrupt
    assert child.poll() is not None


def test_a_signal_while_the_child_starts_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        """The signal comes when the process runs and its owner does not know it yet."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            begun.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        _child(FOREVER)
    assert begun[0].poll() is not None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _wait_for_line(child: Child) -> str:
    deadline = time.monotonic() + 60
    while not child.tail:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return child.tail[0]
