"""A request that has been let in: it holds what it may use until it is settled, once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum

from realm_reference.tenants.gate import Left


@dataclass(frozen=True)
class Job:
    """What asks to be let in. `id` is the answer's own id, unique for ever; `request_id` is the client's.

    `max_tokens` is the most that all choices together may generate.
    """

    id: str
    request_id: str
    endpoint: str
    model: str
    prompt_tokens: int
    max_tokens: int


class Status(StrEnum):
    """How a request went."""

    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True)
class Timings:
    """Seconds since the request came: until a guest took it, until its first token, until its end."""

    queue: float | None
    ttft: float | None
    total: float


@dataclass(frozen=True)
class Outcome:
    """What it used and how it ended. `finish` is a finish reason, or the error code of a failure."""

    prompt_tokens: int
    completion_tokens: int
    status: Status
    finish: str | None
    timings: Timings


class Lease:
    """Gives back what was not used and has the outcome written down, whoever settles first and only then."""

    def __init__(
        self,
        left: tuple[Left, ...],
        give_back: Callable[[int | None], None],
        write: Callable[[Outcome], Future[None]],
    ) -> None:
        """`left` is what the tenant may still use after it; `give_back` is told the tokens used."""
        self.left = left
        self._give_back = give_back
        self._write = write
        self._written: Future[None] | None = None
        self._open = True

    def void(self) -> None:
        """It was let in and then not run: as if it had never asked."""
        if self._open:
            self._open = False
            self._give_back(None)

    def settle(self, outcome: Outcome) -> None:
        """Settle without waiting; later calls change nothing."""
        if self._open:
            self._open = False
            self._give_back(outcome.prompt_tokens + outcome.completion_tokens)
            self._written = self._write(outcome)

    async def settled(self, outcome: Outcome) -> None:
        """Settle and wait until the outcome is durable: only then may a client see its answer's end."""
        self.settle(outcome)
        if self._written is not None:
            await asyncio.wrap_future(self._written)
