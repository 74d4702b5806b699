"""How a server is set up; frozen, made once from flags, environment and config file."""

from __future__ import annotations

from dataclasses import dataclass, field

from realm_reference.orchestration import GuestLimits


@dataclass(frozen=True)
class ServerSettings:
    """Times in seconds, sizes in bytes. `http_port` 0 takes a free port."""

    host: str = "127.0.0.1"
    http_port: int = 8081
    metrics_port: int | None = None
    max_running: int = 8
    max_waiting: int = 64
    max_body_bytes: int = 4 << 20
    default_max_tokens: int | None = None
    keep_alive_interval: float = 10.0
    write_timeout: float = 30.0
    retry_after: int = 1
    drain_seconds: float = 30.0
    limits: GuestLimits = field(default_factory=GuestLimits)
