"""When requests are meant to start, whatever the server does: the open loop.

A closed loop waits for an answer before it asks again, so a slow server is asked less and hides its queue
(coordinated omission, https://www.azul.com/files/HowNotToMeasureLatency_LLSummit_NYC_12Nov2013.pdf). Here the
moments are drawn beforehand, from the seed alone: every process draws the same ones and takes its share, so
that several keep one process's rhythm, and nothing drifts, because each moment counts from the start.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean, pstdev
from typing import Final

import numpy as np

HIGHEST_RATE: Final = 100_000.0
FORMS: Final = (
    "constant:RATE, poisson:RATE, gamma:RATE:CV, ramp:FROM-TO, steps:FROM-TO:N, spike:BASE-PEAK or "
    "trace:FILE (rates a second)"
)
_NUMBER = r"(\d+(?:\.\d+)?)"
_DRAWN_AT_ONCE = 4096


class ArrivalsError(Exception):
    """The text, or the trace that it names, is no arrival process; one line."""


@dataclass(frozen=True)
class Arrivals:
    """An arrival process, as the user wrote it.

    Kinds: `constant` gaps; `poisson`, exponential gaps; `gamma` gaps with a coefficient of variation `cv`
    (above 1: bursts); `ramp`, evenly from `rate` to `last_rate` a second over the run; `levels`, equal parts
    of the run with even gaps each (`steps`: so many from the one rate to the other; `spike`: the middle fifth
    at the peak); `trace`, the moments of a file, in seconds from its first.
    """

    text: str
    kind: str
    rate: float = 0.0
    last_rate: float = 0.0
    cv: float = 0.0
    levels: tuple[float, ...] = ()
    moments: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Arrivals:
        """Read one of `FORMS`; raises ArrivalsError."""
        kind, _, rest = text.partition(":")
        if kind == "trace" and rest:
            return cls(text, kind, moments=_trace(Path(rest)))
        forms: dict[str, tuple[str, Callable[[list[float]], Arrivals]]] = {
            "constant": (_NUMBER, lambda n: cls(text, kind, n[0])),
            "poisson": (_NUMBER, lambda n: cls(text, kind, n[0], cv=1.0)),
            "gamma": (f"{_NUMBER}:{_NUMBER}", lambda n: cls(text, kind, n[0], cv=n[1])),
            "ramp": (f"{_NUMBER}-{_NUMBER}", lambda n: cls(text, kind, n[0], n[1])),
            "steps": (
                f"{_NUMBER}-{_NUMBER}:([1-9][0-9]?)",
                lambda n: cls(
                    text, "levels", max(n[:2]), levels=tuple(np.linspace(n[0], n[1], int(n[2])).tolist())
                ),
            ),
            "spike": (
                f"{_NUMBER}-{_NUMBER}",
                lambda n: cls(text, "levels", max(n), levels=(n[0], n[0], n[1], n[0], n[0])),
            ),
        }
        pattern, make = forms.get(kind, ("$^", None))
        match = re.fullmatch(pattern, rest)
        if match is None or make is None:
            raise ArrivalsError(f"{text!r} is no arrival process; write {FORMS}")
        arrivals = make([float(number) for number in match.groups()])
        fastest = max(arrivals.rate, arrivals.last_rate)
        if not 0 < fastest <= HIGHEST_RATE or (kind == "gamma" and not 0 < arrivals.cv <= 100):
            raise ArrivalsError(f"{text!r}: rates lie above 0 and up to {HIGHEST_RATE:g}, the CV up to 100")
        return arrivals

    def offsets(self, seed: int, duration_s: float) -> Iterator[float]:
        """The moments within the run, in seconds from its start, ascending; equal seeds, equal moments."""
        return itertools.takewhile(lambda moment: moment < duration_s, self._moments(seed, duration_s))

    def share(self, seed: int, duration_s: float, part: int, parts: int) -> Iterator[float]:
        """Every `parts`-th moment from the `part`-th on: what one of several processes sends."""
        return itertools.islice(self.offsets(seed, duration_s), part, None, parts)

    def _moments(self, seed: int, duration_s: float) -> Iterator[float]:
        if self.kind == "trace":
            return iter(self.moments)
        if self.kind == "constant":
            return (n / self.rate for n in itertools.count())
        if self.kind == "ramp":
            return self._ramp(duration_s)
        if self.kind == "levels":
            return self._even_levels(duration_s / len(self.levels))
        return self._gamma(seed)

    def _ramp(self, duration_s: float) -> Iterator[float]:
        """The n-th moment is where the integral of the rate reaches n: rate * t + slope * t**2 / 2 = n."""
        slope = (self.last_rate - self.rate) / duration_s
        for n in itertools.count():
            if slope == 0:
                yield n / self.rate
                continue
            inside = self.rate**2 + 2 * slope * n
            if inside < 0:
                return  # a falling ramp has come to its end
            yield (math.sqrt(inside) - self.rate) / slope

    def _even_levels(self, each_s: float) -> Iterator[float]:
        """The n-th moment is where the integral of the rate reaches n, as in a ramp."""
        before, n = 0.0, 0
        for number, rate in enumerate(self.levels):
            while n < before + rate * each_s - 1e-9:
                yield number * each_s + (n - before) / rate
                n += 1
            before += rate * each_s

    def _gamma(self, seed: int) -> Iterator[float]:
        """Gaps of mean 1 / rate with the wanted coefficient of variation; 1 makes them exponential."""
        draw = np.random.default_rng(seed)
        shape = 1 / self.cv**2
        now = 0.0
        while True:
            for gap in draw.gamma(shape, 1 / (self.rate * shape), _DRAWN_AT_ONCE):
                now += float(gap)
                yield now


def rhythm(sent_s: Sequence[float]) -> dict[str, float | None]:
    """What the moments of sending (seconds, ascending) were like: their rate a second, and the coefficient of
    variation of their gaps (0: constant, 1: Poisson); None where there are too few.
    """
    gaps = [after - before for before, after in itertools.pairwise(sent_s)]
    mean = fmean(gaps) if len(gaps) > 1 else 0.0
    if not mean:
        return {"rate": None, "gap_cv": None}
    return {"rate": round(1 / mean, 6), "gap_cv": round(pstdev(gaps) / mean, 6)}


def _trace(path: Path) -> tuple[float, ...]:
    """The time stamps of a trace, made relative to the first: JSON lines with `timestamp` in milliseconds
    (Mooncake), or CSV with a column TIMESTAMP (Azure: date and time) or Timestamp (BurstGPT: seconds).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ArrivalsError(
            f"{path} cannot be read as a trace: {getattr(error, 'strerror', error)}"
        ) from None
    rows = _json_stamps(path, text) if text.lstrip().startswith("{") else _csv_stamps(path, text)
    stamps = sorted(rows)
    if not stamps:
        raise ArrivalsError(f"{path} holds no time stamps; its rows need one in a column 'timestamp'")
    return tuple(stamp - stamps[0] for stamp in stamps)


def _json_stamps(path: Path, text: str) -> Iterator[float]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                stamp = float(json.loads(line)["timestamp"]) / 1000
            except (ValueError, LookupError, TypeError, RecursionError):
                stamp = math.nan
            yield _finite(path, number, stamp)


def _csv_stamps(path: Path, text: str) -> Iterator[float]:
    reader = csv.DictReader(text.splitlines())
    names = [name for name in reader.fieldnames or () if name and name.lower() == "timestamp"]
    if not names:
        raise ArrivalsError(f"{path} has no column 'timestamp' in its first line")
    for number, row in enumerate(reader, 2):
        yield _finite(path, number, _seconds(row[names[0]] or ""))


def _seconds(stamp: str) -> float:
    try:
        return float(stamp)
    except ValueError:
        pass
    try:
        # Azure writes seven digits of a second; Python reads six.
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", stamp)).timestamp()
    except ValueError:
        return math.nan


def _finite(path: Path, number: int, stamp: float) -> float:
    if not math.isfinite(stamp):
        raise ArrivalsError(f"{path}, line {number}: no time stamp that can be read")
    return stamp
