"""What the ledger adds up to: requests and tokens by tenant, key, model or day, or each request."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from realm_reference.tenants.ledger import COLUMNS, LedgerError, connect

GROUPS: Final = {
    "tenant": ("tenant",),
    "key": ("tenant", "key_id"),
    "model": ("model",),
    "endpoint": ("endpoint",),
    "day": ("date(started, 'unixepoch') AS day",),
}
_SUMS: Final = """
    count(*) AS requests,
    sum(status = 'finished') AS finished,
    sum(status = 'cancelled') AS cancelled,
    sum(status = 'failed') AS failed,
    sum(prompt_tokens) AS prompt_tokens,
    sum(completion_tokens) AS completion_tokens,
    sum(prompt_tokens + completion_tokens) AS total_tokens,
    round(avg(queue_seconds), 6) AS mean_queue_seconds,
    round(avg(ttft_seconds), 6) AS mean_ttft_seconds,
    round(avg(total_seconds), 6) AS mean_total_seconds
"""


@dataclass(frozen=True)
class Period:
    """Which requests: those that started from `since` until before `until` (Unix times), of a tenant."""

    since: float | None = None
    until: float | None = None
    tenant: str | None = None

    def where(self) -> tuple[str, list[Any]]:
        """The SQL condition and its values."""
        parts = {"started >= ?": self.since, "started < ?": self.until, "tenant = ?": self.tenant}
        given = {part: value for part, value in parts.items() if value is not None}
        return " AND ".join(given) or "true", list(given.values())


def usage(path: Path, period: Period, by: str) -> list[dict[str, Any]]:
    """Sums by one of GROUPS, or with ``request`` the rows themselves, oldest first. LedgerError."""
    condition, values = period.where()
    if by == "request":
        query = f"SELECT {', '.join(COLUMNS)} FROM requests WHERE {condition} ORDER BY started, id"
    else:
        columns = GROUPS[by]
        order = ", ".join(str(number) for number in range(1, len(columns) + 1))
        query = (
            f"SELECT {', '.join(columns)}, {_SUMS} FROM requests WHERE {condition}"
            f" GROUP BY {order} ORDER BY {order}"
        )
    return list(_rows(path, query, values))


def _rows(path: Path, query: str, values: list[Any]) -> Iterator[dict[str, Any]]:
    with closing(connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        try:
            for row in connection.execute(query, values):
                yield dict(row)
        except sqlite3.Error as error:
            raise LedgerError(f"cannot read the ledger {path}: {error}") from None
