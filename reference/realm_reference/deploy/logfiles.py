"""The log files of replicas: read from their beginning, followed as they grow and as they are renamed."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

from realm_reference.deploy.logline import Entry, parse

_POLL_SECONDS: Final = 0.2


class LogFile:
    """The log of one replica, which supervisord renames to .1, .2, ... when it is full."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._replica = path.stem.removeprefix("replica-")
        self._open: TextIO | None = None
        self._last_time = ""
        self._partial = ""

    def past(self) -> Iterator[Entry]:
        """All that is there now, the renamed parts first."""
        older = sorted(self._path.parent.glob(f"{self._path.name}.*"), key=lambda path: -int(path.suffix[1:]))
        for path in older:
            with path.open(encoding="utf-8", errors="replace") as part:
                yield from (self._entry(line) for line in part)
        yield from self.more()

    def more(self) -> Iterator[Entry]:
        """What has come since the last call; the rest of a file that was renamed in between is not lost."""
        if self._open is None:
            self._reopen()
        while self._open is not None:
            yield from self._lines(self._open)
            if not self._renamed():
                return
            self._open.close()
            self._reopen()

    def close(self) -> None:
        """Let go of the file."""
        if self._open is not None:
            self._open.close()

    def _lines(self, file: TextIO) -> Iterator[Entry]:
        for chunk in file:
            self._partial += chunk
            if self._partial.endswith("\n"):
                line, self._partial = self._partial, ""
                yield self._entry(line)

    def _entry(self, line: str) -> Entry:
        entry = parse(line.rstrip("\n"), self._replica, self._last_time)
        self._last_time = entry.time
        return entry

    def _reopen(self) -> None:
        try:
            self._open = self._path.open(encoding="utf-8", errors="replace")
        except OSError:
            self._open = None

    def _renamed(self) -> bool:
        assert self._open is not None
        try:
            there, here = self._path.stat(), os.fstat(self._open.fileno())
        except OSError:
            return False  # renamed, and the new one is not there yet
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)


def merged(files: Sequence[LogFile]) -> Iterator[Entry]:
    """All lines that are there, of all files, in the order of their times."""
    return heapq.merge(*(file.past() for file in files), key=lambda entry: entry.time)


def followed(files: Sequence[LogFile]) -> Iterator[Entry]:
    """Lines as they come, for ever, also in files that are not there yet."""
    while True:
        fresh = [entry for file in files for entry in file.more()]
        yield from sorted(fresh, key=lambda entry: entry.time)
        if not fresh:
            time.sleep(_POLL_SECONDS)
