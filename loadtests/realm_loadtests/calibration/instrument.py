"""The instrument's own error on this machine, and where it is kept for the reports of later runs.

Measured against an emitter whose send times are known: what a client's figure is more than the server's own
record of the same request. It belongs to a machine and to versions, so it is kept with their fingerprint and
is not used on another.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import platformdirs

from realm_loadtests.records.records import Record

SCHEMA: Final = "realm-calibration/1"
CACHE_VARIABLE: Final = "REALM_CACHE"
TRUSTED_MS: Final = 1.0
"""The p99 error up to which a level counts as within the instrument's reach."""
WARM_UP_US: Final = 1_000_000
"""Requests sent before are left out: connecting and first use are not the instrument's steady error."""


@dataclass(frozen=True)
class Error:
    """How much more the instrument reports than happened, in milliseconds: quantiles over single values."""

    p50: float
    p99: float
    count: int

    @classmethod
    def of(cls, errors_us: Sequence[float]) -> Error:
        """Of errors in microseconds; their size counts, not their sign."""
        p50, p99 = np.percentile(np.abs(errors_us), [50, 99], method="inverted_cdf") / 1000
        return cls(round(float(p50), 4), round(float(p99), 4), len(errors_us))


@dataclass(frozen=True)
class Level:
    """The instrument's error with so many streams at a time, and what it cost."""

    streams: int
    events_per_second: float
    ttft: Error
    itl: Error
    cpu_s_per_1000_events: float
    client_limited: bool

    @property
    def trusted(self) -> bool:
        """Whether both errors stay below `TRUSTED_MS` in the 99th percentile."""
        return max(self.ttft.p99, self.itl.p99) < TRUSTED_MS and not self.client_limited


@dataclass(frozen=True)
class Arrived:
    """An arrival process as the server saw it: the rate, the CV of the gaps, and the p99 of lateness."""

    process: str
    rate: float | None
    gap_cv: float | None
    late_p99_ms: float | None


@dataclass(frozen=True)
class Calibration:
    """One calibration of this machine; `most_events_per_second` is the unpaced limit of one process."""

    fingerprint: str
    machine: dict[str, Any]
    measured: str
    levels: tuple[Level, ...]
    arrivals: tuple[Arrived, ...]
    most_events_per_second: float

    @property
    def trusted_streams(self) -> int | None:
        """The most streams up to which every level is trusted; None if not even the first is."""
        good = None
        for level in self.levels:
            if not level.trusted:
                break
            good = level.streams
        return good

    def level(self, streams: int) -> Level | None:
        """The level that speaks for so many streams: the lowest measured one with as many."""
        return next((level for level in self.levels if level.streams >= streams), None)

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return {"schema": SCHEMA, **asdict(self), "trusted_streams": self.trusted_streams}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Calibration:
        """Read what `to_json` wrote."""
        levels = (
            Level(**{**level, "ttft": Error(**level["ttft"]), "itl": Error(**level["itl"])})
            for level in document["levels"]
        )
        return cls(
            document["fingerprint"],
            document["machine"],
            document["measured"],
            tuple(levels),
            tuple(Arrived(**arrived) for arrived in document["arrivals"]),
            document["most_events_per_second"],
        )


def errors(records: Sequence[Record], served: Mapping[str, Mapping[str, Any]]) -> tuple[Error, Error]:
    """TTFT's and ITL's error, of the completed requests that the server has a record of (`/mock/records`).

    Raises ValueError if there is none after the warm-up.
    """
    ttft: list[float] = []
    gaps: list[float] = []
    for record in records:
        truth = served.get(record.response_id or "")
        if record.outcome != "completed" or truth is None or record.at_us < WARM_UP_US or not record.token_us:
            continue
        sent = [(stamp - truth["arrived_ns"]) / 1000 for stamp in truth["sent_ns"]]
        ttft.append(record.token_us[0] - sent[0])
        if len(sent) == len(record.token_us):
            gaps.extend(np.diff(record.token_us) - np.diff(sent))
    if not ttft or not gaps:
        raise ValueError("no request of the calibration was completed after its warm-up")
    return Error.of(ttft), Error.of(gaps)


def machine() -> dict[str, Any]:
    """What a calibration belongs to: the machine and the versions that decide how fast the instrument is."""
    return {
        "node": platform.node(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("realm-harness", "locust", "gevent")},
    }


def fingerprint() -> str:
    """Sixteen hex digits of `machine`."""
    return hashlib.sha256(json.dumps(machine(), sort_keys=True).encode()).hexdigest()[:16]


def path() -> Path:
    """Where this machine's calibration is, or would be."""
    moved = os.environ.get(CACHE_VARIABLE)
    folder = Path(moved) if moved else Path(platformdirs.user_cache_dir("realm-harness", appauthor=False))
    return folder.expanduser() / "calibration" / f"{fingerprint()}.json"


def kept() -> Calibration | None:
    """This machine's calibration; None if it was never measured, or cannot be read."""
    try:
        return Calibration.from_json(json.loads(path().read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError):
        return None
