"""How every bench's figures begin: when, on which machine and with which versions they were taken."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any


def header(schema: str, *packages: str, **machine: object) -> dict[str, Any]:
    """The first keys of a bench's JSON: versions of Python, this project and `packages`; `machine` says what
    else was measured of the machine.
    """
    return {
        "schema": schema,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
            **machine,
        },
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("realm-harness", *packages)},
    }


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The first lines of its table."""
    machine = result["machine"]
    yield f"{machine['platform']}, {machine['cpus']} CPUs, load {machine['load']}"
    yield _listed(result["versions"])


def settings_line(result: dict[str, Any]) -> str:
    """What the bench was asked for, as a line of its table."""
    return _listed(result["settings"])


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
