"""The routes by which others watch a server. A test holds them to the routes that it has."""

from __future__ import annotations

from typing import Final

HEALTH: Final = "/health"
READY: Final = "/ready"
METRICS: Final = "/metrics"
