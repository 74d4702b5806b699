"""The usage ledger: one row for each request that was let in, durable before its answer's end is told.

SQLite in WAL mode with full synchronisation, one writer thread. Whoever writes while a commit is under way
goes into the next one, so that many requests share one fsync (group commit) and the event loop never waits
for a disk. Several server processes may share one file.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1
_BUSY_SECONDS: Final = 10.0
_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY,
    request_id TEXT NOT NULL,
    started REAL NOT NULL,
    tenant TEXT NOT NULL,
    key_id TEXT,
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    status TEXT NOT NULL,
    finish TEXT,
    queue_seconds REAL,
    ttft_seconds REAL,
    total_seconds REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS requests_by_time ON requests (started);
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class LedgerError(Exception):
    """The ledger cannot be read or written; one line that says what to do."""


@dataclass(frozen=True)
class Row:
    """A request in the ledger. `started` is Unix time; nothing in it is a prompt, an output or a key."""

    id: str
    request_id: str
    started: float
    tenant: str
    key_id: str | None
    endpoint: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    status: str
    finish: str | None
    queue_seconds: float | None
    ttft_seconds: float | None
    total_seconds: float


COLUMNS: Final = tuple(Row.__dataclass_fields__)
# An id is written once, however often it is tried.
_INSERT: Final = (
    f"INSERT INTO requests ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
    " ON CONFLICT (id) DO NOTHING"
)

_LAST: Final = "SELECT coalesce(max(rowid), 0) FROM requests"
_SINCE: Final = (
    "SELECT rowid, id, tenant, prompt_tokens + completion_tokens FROM requests WHERE rowid > ? ORDER BY rowid"
)


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Open a ledger; LedgerError if the file is not one. Connections stay on the thread that uses them."""
    if not create and not path.is_file():
        raise LedgerError(f"there is no ledger at {path}; a server makes one: realm serve --ledger {path}")
    try:
        connection = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        # In this order: another server may be making it now.
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and create and empty:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
        elif version != SCHEMA_VERSION or _columns(connection) != COLUMNS:
            connection.close()
            raise LedgerError(f"{path} is not a ledger of version {SCHEMA_VERSION}; choose another file")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        raise LedgerError(f"cannot use {path} as a ledger: {error}; choose another file") from None
    return connection


def _columns(connection: sqlite3.Connection) -> tuple[str, ...]:
    """The names of the columns that rows go into; () where there is no such table."""
    return tuple(name for _, name, *_ in connection.execute("PRAGMA table_info(requests)"))


class Ledger:
    """Rows in, futures out: done when the row is on disk, failed with LedgerError when it cannot be."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file; LedgerError with one line if that cannot be."""
        self.path = path
        self.failing = False
        self._connection = connect(path, create=True)
        self._seen = int(self._connection.execute(_LAST).fetchone()[0])
        self._own: set[str] = set()  # written here, and not met yet in `written_elsewhere`
        self._rows: queue.SimpleQueue[tuple[Row, Future[None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def write(self, row: Row) -> Future[None]:
        """Queue a row, from any thread. The future cannot be cancelled: the row is written anyway."""
        written: Future[None] = Future()
        written.set_running_or_notify_cancel()
        self._own.add(row.id)
        self._rows.put((row, written))
        return written

    def tokens_since(self, started: float) -> dict[str, int]:
        """Prompt and completion tokens of each tenant's requests since then, of all servers' that share it.

        Takes time in proportion to their number; LedgerError.
        """
        query = (
            "SELECT tenant, sum(prompt_tokens + completion_tokens) FROM requests WHERE started >= ?"
            " GROUP BY tenant"
        )
        try:
            with closing(connect(self.path)) as connection:
                return dict(connection.execute(query, (started,)).fetchall())
        except sqlite3.Error as error:
            raise LedgerError(f"cannot read the ledger {self.path}: {error}") from None

    def written_elsewhere(self) -> dict[str, tuple[int, int]]:
        """(requests, tokens) of each tenant that other servers have written since this was asked last, or
        since the start. LedgerError. For one thread at a time.
        """
        found: dict[str, tuple[int, int]] = {}
        try:
            with closing(connect(self.path)) as connection:
                for number, id, tenant, tokens in connection.execute(_SINCE, (self._seen,)):
                    self._seen = number
                    if id in self._own:
                        self._own.discard(id)
                    else:
                        requests, so_far = found.get(tenant, (0, 0))
                        found[tenant] = requests + 1, so_far + tokens
        except sqlite3.Error as error:
            raise LedgerError(f"cannot read the ledger {self.path}: {error}") from None
        return found

    def close(self) -> None:
        """Write what is queued and close the file."""
        self._rows.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        more = True
        while more:
            batch = list(self._batch())
            more = None not in batch
            self._commit([item for item in batch if item is not None])

    def _batch(self) -> Iterator[tuple[Row, Future[None]] | None]:
        yield self._rows.get()
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._rows.get_nowait()

    def _commit(self, batch: list[tuple[Row, Future[None]]]) -> None:
        failure: LedgerError | None = None
        try:
            self._insert([row for row, _ in batch])
        except Exception as error:  # the thread has to live on: the next batch may be written
            log.error("the ledger cannot be written", extra={"reason": str(error), "rows": len(batch)})
            failure = LedgerError(f"the ledger cannot be written: {error}")
        self.failing = failure is not None
        for row, written in batch:
            if failure is None:
                written.set_result(None)
            else:
                self._own.discard(row.id)
                written.set_exception(failure)

    def _insert(self, rows: list[Row]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(_INSERT, map(astuple, rows))
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise
