"""`realm status`: processes, readiness and versions of local deployments and of servers by their URLs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from realm_reference.deploy.errors import DeployError
from realm_reference.deploy.local.replicas import look, probe
from realm_reference.deploy.local.state import State, deployments
from realm_reference.deploy.local.supervisor import Supervisor


@dataclass(frozen=True)
class Row:
    """One server. Empty texts and None stand for what is not known."""

    deployment: str
    replica: str
    process: str
    pid: int | None
    uptime_seconds: int | None
    ready: bool
    reason: str
    revision: int | None
    version: str
    model: str
    running: int | None
    waiting: int | None
    url: str


def gather(names: Sequence[str]) -> list[Row]:
    """The servers of these deployments and URLs, or of all local deployments. DeployError for an unknown
    name.
    """
    found = {state.name: state for state in deployments()}
    if not names:
        return [row for state in found.values() for row in _local(state)]
    rows: list[Row] = []
    for name in names:
        if name.startswith(("http://", "https://")):
            rows.append(_remote(name.rstrip("/")))
        elif name in found:
            rows += _local(found[name])
        else:
            known = ", ".join(found) or "none"
            raise DeployError(
                f"there is no deployment '{name}' here (known: {known}); a URL may be given too"
            )
    return rows


def _local(state: State) -> Iterable[Row]:
    supervisor = Supervisor(state)
    current = state.current()
    wanted = 1 if current is None else state.plan(current).replicas
    if not supervisor.running():
        yield from (_missing(state.name, "supervisord does not run") for _ in range(wanted))
        return
    shown = 0
    for process in supervisor.processes().values():
        if state.revision_of(process.slot) is not None:
            replica = look(state, process)
            shown += process.state != "STOPPING"
            stale = replica.ready and replica.revision != current
            said = replica.state
            yield Row(
                deployment=state.name,
                replica=f"{process.slot:02}",
                process=process.state.lower(),
                pid=process.pid or None,
                uptime_seconds=round(time.time() - process.started) if process.pid else None,
                ready=replica.ready and not stale,
                reason=f"runs revision {replica.revision}, not {current}" if stale else replica.reason,
                revision=replica.revision,
                version=str(said.get("version", "")),
                model=str(said.get("model", "")),
                running=said.get("running"),
                waiting=said.get("waiting"),
                url=replica.operations_url or "",
            )
    yield from (_missing(state.name, "is not started") for _ in range(wanted - shown))


def _missing(name: str, reason: str) -> Row:
    return Row(name, "-", "stopped", None, None, False, reason, None, "", "", None, None, "")


def _remote(url: str) -> Row:
    status, said = probe(url)
    reason = "" if status == 200 else str(said.get("reason", f"its readiness probe says {status}"))
    return Row(
        deployment="",
        replica="-",
        process="answers" if status else "unreachable",
        pid=None,
        uptime_seconds=None,
        ready=status == 200,
        reason=reason,
        revision=None,
        version=str(said.get("version", "")),
        model=str(said.get("model", "")),
        running=said.get("running"),
        waiting=said.get("waiting"),
        url=url,
    )


_COLUMNS = {
    "DEPLOYMENT": "deployment",
    "REPLICA": "replica",
    "PROCESS": "process",
    "PID": "pid",
    "UP": "uptime_seconds",
    "READY": "ready",
    "REVISION": "revision",
    "VERSION": "version",
    "MODEL": "model",
    "RUNNING": "running",
    "WAITING": "waiting",
    "WHERE": "url",
    "REASON": "reason",
}


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text; columns that nobody fills are left out."""
    cells = {title: [_cell(name, getattr(row, name)) for row in rows] for title, name in _COLUMNS.items()}
    kept = {title: column for title, column in cells.items() if any(column)}
    widths = {title: max(len(title), *map(len, column)) for title, column in kept.items()}
    lines = ["  ".join(title.ljust(widths[title]) for title in kept)]
    lines += ["  ".join(kept[title][i].ljust(widths[title]) for title in kept) for i in range(len(rows))]
    return "\n".join(line.rstrip() for line in lines)


def _cell(name: str, value: Any) -> str:
    if name == "ready":
        return "yes" if value else "no"
    if name == "uptime_seconds" and value is not None:
        return _duration(value)
    return "" if value is None else str(value)


def _duration(seconds: int) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
