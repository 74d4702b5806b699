"""What one request's guest may use. The defaults fit the shipped guests on any model with room to spare."""

from __future__ import annotations

from dataclasses import dataclass

from realm_abi.instance import Limits


@dataclass(frozen=True)
class GuestLimits:
    """Bounds of one guest instance.

    `guest_seconds` is what it may compute between two host calls; `host_calls_per_token` times (prompt +
    max_tokens), and `host_calls_base` more, is how often it may call the host in all; `wall_seconds` is the
    request's deadline, queue included.
    """

    memory_bytes: int = 64 << 20
    guest_seconds: float = 5.0
    wall_seconds: float = 600.0
    sessions: int = 4
    host_calls_base: int = 1024
    host_calls_per_token: int = 64

    @property
    def sandbox(self) -> Limits:
        """The part of them that the sandbox enforces."""
        return Limits(memory_bytes=self.memory_bytes, guest_seconds=self.guest_seconds)
