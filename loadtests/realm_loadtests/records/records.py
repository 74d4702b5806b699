"""One line per request, written as the request ends, so that a killed run keeps what it has seen.

The record is the truth that figures are made from: the histograms of a running test and the figures rebuilt
from the file later are equal, because both take times from here, in whole microseconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

RECORDS_FILE = "requests.jsonl"
Kept = TypeVar("Kept")

Outcome = Literal["completed", "failed", "cut", "cancelled", "slow"]


@dataclass(frozen=True)
class Record:
    """What one request saw; times are microseconds.

    `at_us` is when it was sent, after the start of the run; `token_us` are the token events and `e2e_us` the
    end of the stream, after the sending. `late_us` is how long after its intended start an open loop sent it
    (connecting is part of that); None in a closed loop, which intends none. A request is `cut` if the run
    ended before its stream did: neither a success nor the server's fault; `cancelled` if its user hung up on
    purpose; `slow` if its user read so slowly that its times are not the server's, however it ended.
    `window_tokens` and `window_events` are the tokens and token events that came before the run's end;
    `first_event_us` is the first event of any kind, with text or not; `wanted_prompt_tokens` and
    `wanted_tokens` are the lengths that the run drew for the request, None where it drew none.
    """

    outcome: Outcome
    at_us: int
    e2e_us: int
    connect_us: int = 0
    first_event_us: int | None = None
    token_us: list[int] = field(default_factory=list)
    tokens: int = 0
    window_tokens: int = 0
    window_events: int = 0
    tokens_by: Literal["usage", "events"] = "events"
    prompt_tokens: int | None = None
    finish_reason: str | None = None
    status: int | None = None
    response_id: str | None = None
    error: str | None = None
    detail: str | None = None
    worker: int = 0
    user: int = 0
    late_us: int | None = None
    tenant: str = ""
    wanted_prompt_tokens: int | None = None
    wanted_tokens: int | None = None

    @property
    def ttft_us(self) -> int | None:
        """Time from the sending to the first token event; None if there was none."""
        return self.token_us[0] if self.token_us else None

    @property
    def start_ttft_us(self) -> int | None:
        """The same from the intended start, where there is one: a wait before the sending counts."""
        return None if self.ttft_us is None else self.ttft_us + (self.late_us or 0)

    @property
    def start_e2e_us(self) -> int:
        """The end of the stream after the intended start, or after the sending where none was intended."""
        return self.e2e_us + (self.late_us or 0)

    @property
    def tpot_us(self) -> float | None:
        """Time per output token after the first: from the first to the last, over their count less one."""
        if len(self.token_us) < 2 or self.tokens < 2:
            return None
        return (self.token_us[-1] - self.token_us[0]) / (self.tokens - 1)

    @property
    def gaps_us(self) -> list[int]:
        """The gaps between token events that follow each other."""
        return [after - before for before, after in zip(self.token_us, self.token_us[1:], strict=False)]

    def to_json(self) -> dict[str, Any]:
        """The record as it is written, one such object a line."""
        return dict(vars(self))


class RecordFile:
    """Appends records to a file, each by one write, so that several processes can share the file.

    If the disk fills, the run goes on: `error` keeps the first reason, and the figures are complete still.
    """

    def __init__(self, folder: Path) -> None:
        self.error: str | None = None
        self._torn = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._descriptor = os.open(folder / RECORDS_FILE, flags, 0o644)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, as `Record.to_json` gave it."""
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        if self._torn:
            line = b"\n" + line  # so that the part of a record spoils no other, once there is space again
        try:
            written = os.write(self._descriptor, line)
            self._torn = written < len(line)
            if self._torn:
                self.error = self.error or "records could not be written: the disk took only a part of one"
        except OSError as error:
            self.error = self.error or f"records could not be written: {error}"

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_records(folder: Path) -> Iterator[Record]:
    """Read the records of a run."""
    return read_lines(folder / RECORDS_FILE, Record)


def read_lines(path: Path, make: Callable[..., Kept]) -> Iterator[Kept]:
    """What is kept in a file, an object of JSON a line; nothing if there is no file. A line that a killed run
    or a full disk left unfinished is passed over.
    """
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError, TypeError):
                yield make(**json.loads(line))
