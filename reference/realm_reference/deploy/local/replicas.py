"""What the replicas of a local deployment are doing: supervisord's view and their own, together."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from realm_reference.deploy import probes
from realm_reference.deploy.local.state import State
from realm_reference.deploy.local.supervisor import ENDED, Process

PROBE_SECONDS: Final = 10.0
"""Longer than a server takes to find out that its engine is stuck."""


@dataclass(frozen=True)
class Replica:
    """One replica.

    Attributes:
        slot: its number.
        revision: what it was told to run.
        process: supervisord's view.
        ready: whether it would serve a request.
        reason: why not; "" when it would.
        state: what its readiness probe says of it: model, version, running, waiting.
        operations_url: where its probes and metrics are, None until it is there.
    """

    slot: int
    revision: int | None
    process: Process
    ready: bool
    reason: str
    state: Mapping[str, Any] = field(default_factory=dict)
    operations_url: str | None = None


def look(state: State, process: Process) -> Replica:
    """Ask a slot's replica how it is."""
    revision = state.revision_of(process.slot)
    if process.state in ENDED:
        return Replica(process.slot, revision, process, False, last_words(state, process))
    if process.state == "STOPPING":
        return Replica(process.slot, revision, process, False, "stopping")
    try:
        written = json.loads(state.ready_file(process.slot).read_text("utf-8"))
    except (OSError, ValueError):
        return Replica(process.slot, revision, process, False, "loading")
    if written["pid"] != process.pid:
        return Replica(process.slot, revision, process, False, "loading")
    url = written["operations_url"]
    status, said = probe(url)
    reason = "" if status == 200 else str(said.get("reason", f"{probes.READY} says {status}"))
    return Replica(process.slot, revision, process, status == 200, reason, said, url)


def probe(url: str, seconds: float = PROBE_SECONDS) -> tuple[int, dict[str, Any]]:
    """Status and content of a server's readiness probe; status 0 when there is no answer."""
    try:
        with urllib.request.urlopen(url + probes.READY, timeout=seconds) as response:
            return response.status, _object(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _object(error.read())
    except (OSError, ValueError) as error:
        cause = getattr(error, "reason", error)  # urllib wraps what the socket said
        return 0, {"reason": f"no answer: {getattr(cause, 'strerror', None) or cause}"}


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def last_words(state: State, process: Process) -> str:
    """Why a replica ended: the last line that it wrote."""
    try:
        with state.log_file(process.slot).open(encoding="utf-8", errors="replace") as log:
            lines = deque((line.strip() for line in log if line.strip()), maxlen=1)
    except OSError:
        lines = deque()
    return lines[0].removeprefix("Error: ") if lines else process.message or "it ended without a word"
