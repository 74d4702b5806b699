"""What the server itself saw of each chat request: the truth that a load tool's figures are held to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class RequestRecord:
    """One chat request as the server saw it. All times are `time.perf_counter_ns()` of the server.

    Attributes:
        id: the `id` that the answer carries, by which a client's record is matched to this one.
        arrived_ns: the request's head and body were there.
        due_ns: when each token was due.
        sent_ns: when each token's bytes were handed to the socket; shorter than due_ns after a disconnect.
        finished_ns: the last byte had been handed over; None while running or after a disconnect.
        outcome: "running", "completed", "refused" or "disconnected".
    """

    id: str
    stream: bool
    arrived_ns: int
    due_ns: list[int] = field(default_factory=list)
    sent_ns: list[int] = field(default_factory=list)
    finished_ns: int | None = None
    outcome: str = "running"

    def as_json(self) -> dict[str, Any]:
        """The record as the `/mock/records` endpoint sends it."""
        return asdict(self)
