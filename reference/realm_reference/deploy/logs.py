"""`realm logs`: the JSON lines of all replicas as one log, chosen by field and followed as it grows."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from realm_reference.deploy.errors import DeployError
from realm_reference.deploy.local.state import SLOTS, State, deployments
from realm_reference.deploy.logfiles import LogFile, followed, merged
from realm_reference.deploy.logline import Entry, parse

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_SPAN: Final = re.compile(r"(\d+)([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Filter:
    """Which lines are wanted; None and () want all."""

    since: str | None = None
    tenant: str | None = None
    request: str | None = None
    replicas: Sequence[str] = ()
    level: str | None = None

    def wants(self, entry: Entry) -> bool:
        """Whether a line is one of them."""
        fields = entry.fields
        return (
            (self.since is None or entry.time >= self.since)
            and (self.tenant is None or fields.get("tenant") == self.tenant)
            and (self.request is None or fields.get("request_id") == self.request)
            and (not self.replicas or entry.replica in self.replicas)
            and (self.level is None or _rank(fields.get("level")) >= _rank(self.level))
        )


def _rank(level: object) -> int:
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def since(text: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> str:
    """A point in time, as log lines have it: from a span before now (90s, 10m, 2h, 1d) or an ISO time.

    DeployError for anything else.
    """
    span = _SPAN.fullmatch(text)
    if span is not None:
        moment = now() - timedelta(**{_UNITS[span[2]]: int(span[1])})
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise DeployError(
                f"--since is a span such as 90s, 10m or 2h, or a time as in 2030-01-31T12:00, not '{text}'"
            ) from None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def from_stdin() -> Iterator[Entry]:
    """Lines that another program has collected."""
    last = ""
    for line in sys.stdin:
        entry = parse(line.rstrip("\n"), "-", last)
        last = entry.time
        yield entry


def of_deployment(name: str | None, follow: bool) -> Iterator[Entry]:
    """The lines of a local deployment, and with `follow` those that come. DeployError when there is none."""
    state = _chosen(name)
    files = [LogFile(state.log_file(slot)) for slot in SLOTS]
    try:
        yield from merged(files)
        if follow:
            yield from followed(files)
    finally:
        for file in files:
            file.close()


def _chosen(name: str | None) -> State:
    found = {state.name: state for state in deployments()}
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name is None:
        raise DeployError(
            f"which deployment? There are {', '.join(found)}" if found else "nothing is deployed here"
        )
    if name not in found:
        raise DeployError(f"there is no deployment '{name}' here (known: {', '.join(found) or 'none'})")
    return found[name]
