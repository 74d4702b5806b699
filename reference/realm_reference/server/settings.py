"""How a server is set up; frozen, made once from flags, environment and config file."""

from __future__ import annotations

from dataclasses import dataclass, field

from realm_reference.orchestration import GuestLimits


@dataclass(frozen=True)
class WebSocketSettings:
    """Bounds of one client's connection. A client that takes nothing is cut off after the server's
    `write_timeout`, one that answers no ping after half of `heartbeat` more.
    """

    auth_timeout: float = 10.0
    idle_timeout: float = 600.0
    heartbeat: float = 30.0
    max_calls: int = 16
    max_message_bytes: int = 1 << 20


@dataclass(frozen=True)
class ServerSettings:
    """Times in seconds, sizes in bytes. `http_port` 0 takes a free port."""

    host: str = "127.0.0.1"
    http_port: int = 8081
    metrics_port: int | None = None
    max_running: int = 8
    max_waiting: int = 64
    max_body_bytes: int = 4 << 20
    max_bodies_bytes: int = 128 << 20
    max_connections: int = 4096
    head_timeout: float = 20.0
    body_timeout: float = 60.0
    idle_timeout: float = 75.0
    default_max_tokens: int | None = None
    draft_tokens: int = 0
    keep_alive_interval: float = 10.0
    write_timeout: float = 30.0
    retry_after: int = 1
    leave_seconds: float = 0.0
    drain_seconds: float = 30.0
    pulse_seconds: float = 5.0
    prepare_seconds: float = 30.0
    limits: GuestLimits = field(default_factory=GuestLimits)
    websocket: WebSocketSettings = field(default_factory=WebSocketSettings)
