"""Whether one side's runs differ from another's: differences with intervals, and a verdict for a pipeline.

Requests are the unit that is drawn again (bootstrap, Efron 1979): the gaps of one stream belong together, and
pooled gaps would make an interval far too narrow. With several runs a side, runs are drawn first and requests
within them, because two runs of the same server differ too. Percentile intervals, seeded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from realm_loadtests.records import Record

Floats = NDArray[np.float64]

RESAMPLES: Final = 1000
CONFIDENCE: Final = 0.95
_TAILS: Final = (50 * (1 - CONFIDENCE), 100 - 50 * (1 - CONFIDENCE))


Runs = Sequence[Sequence[Record]]
"""One side: the requests of each of its runs."""


@dataclass(frozen=True)
class Difference:
    """A figure on both sides. `change` is (B - A) / A, of a share B - A, with its interval `low` to `high`;
    `verdict` is worse, better, same (the interval lies within the threshold) or unclear.
    """

    figure: str
    unit: str
    a: float
    b: float
    change: float
    low: float
    high: float
    verdict: str


def compare(a: Runs, b: Runs, *, threshold: float, seed: int) -> dict[str, Any]:
    """Compare two sides' runs. A change beyond `threshold` (0.05 is 5 %) in its whole interval is a verdict.

    Raises ValueError if a side has no completed request.
    """
    sides = [_Side(a), _Side(b)]
    for name, side in zip("AB", sides, strict=True):
        if not side.completed.any():
            raise ValueError(f"{name} has no completed request to compare")
    draw = np.random.default_rng(seed)
    weights = [[side.redraw(draw) for _ in range(RESAMPLES)] for side in sides]
    found = [_difference(name, sides, weights, threshold) for name in FIGURES]
    ttfts = [side.values["ttft"][0] for side in sides]
    return {
        "schema": "realm-compare/1",
        "threshold": threshold,
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "seed": seed,
        "runs": {name: len(runs) for name, runs in (("a", a), ("b", b))},
        "requests": {name: sum(map(len, runs)) for name, runs in (("a", a), ("b", b))},
        "effect": {"ttft_cliffs_delta": _cliffs_delta(*ttfts)},
        "figures": [asdict(each) for each in found if each is not None],
    }


class _Side:
    """One side's requests as arrays: for each latency its values, ascending, and whose each is."""

    def __init__(self, runs: Runs) -> None:
        records = list(itertools.chain(*runs))
        ends = list(itertools.accumulate(map(len, runs)))
        self._runs = [np.arange(end - len(run), end) for end, run in zip(ends, runs, strict=True) if run]
        self.failed = np.array([record.outcome == "failed" for record in records])
        self.completed = np.array([record.outcome == "completed" for record in records])
        self.values = {name: _ascending(records, of) for name, of in LATENCIES.items()}

    def redraw(self, draw: np.random.Generator) -> Floats:
        """How often each request is in a resample: runs with replacement, then requests of each with it."""
        chosen = draw.integers(len(self._runs), size=len(self._runs))
        indices = [draw.choice(self._runs[run], len(self._runs[run])) for run in chosen]
        return np.bincount(np.concatenate(indices), minlength=len(self.failed)).astype(np.float64)

    def figure(self, name: str, weights: Floats) -> float:
        """A figure of the requests, each counted so often; NaN without values."""
        if name == "error_rate":
            judged = weights @ (self.failed | self.completed)
            return float(weights @ self.failed / judged) if judged else np.nan
        latency, _, rank = name.partition("_p")
        values, owners = self.values[latency]
        cumulated = np.cumsum(weights[owners])
        if not len(cumulated) or not cumulated[-1]:
            return np.nan
        # The nearest rank, as in the figures of a run.
        return float(values[np.searchsorted(cumulated, cumulated[-1] * float(rank) / 100 - 1e-9)])


def _ascending(
    records: Sequence[Record], of: Callable[[Record], Sequence[float | None]]
) -> tuple[Floats, NDArray[np.int64]]:
    """The latencies of the completed requests, in milliseconds, and the index of the request of each."""
    pairs = [
        (value / 1000, index)
        for index, record in enumerate(records)
        if record.outcome == "completed"
        for value in of(record)
        if value is not None
    ]
    pairs.sort()
    return np.array([value for value, _ in pairs]), np.array([index for _, index in pairs], np.int64)


def _difference(
    name: str, sides: Sequence[_Side], weights: Sequence[Sequence[Floats]], threshold: float
) -> Difference | None:
    a, b = (side.figure(name, np.ones(len(side.failed))) for side in sides)
    drawn = np.array([[side.figure(name, w) for w in ws] for side, ws in zip(sides, weights, strict=True)])
    changes = _change(name, drawn[0], drawn[1])
    changes = changes[np.isfinite(changes)]
    if not np.isfinite([a, b]).all() or not len(changes):
        return None
    low, high = (float(value) for value in np.percentile(changes, _TAILS))
    change = float(_change(name, np.array(a), np.array(b)))
    unit = "" if name == "error_rate" else "ms"
    return Difference(name, unit, a, b, change, low, high, _verdict(low, high, threshold))


def _change(name: str, a: Floats, b: Floats) -> Floats:
    """A share by its difference, a latency by its ratio."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return b - a if name == "error_rate" else b / a - 1


def _verdict(low: float, high: float, threshold: float) -> str:
    if low > threshold:
        return "worse"
    if high < -threshold:
        return "better"
    return "same" if -threshold <= low and high <= threshold else "unclear"


def _cliffs_delta(a: Floats, b: Floats) -> float | None:
    """How often a value of B is above one of A, less how often below: -1 to 1, 0 for equal distributions."""
    # [n], [m], both ascending -> a number
    if not len(a) or not len(b):
        return None
    above = np.searchsorted(a, b, "left").sum()
    below = (len(a) - np.searchsorted(a, b, "right")).sum()
    return round(float(above - below) / (len(a) * len(b)), 6)


LATENCIES: Final[dict[str, Callable[[Record], Sequence[float | None]]]] = {
    "ttft": lambda record: [record.start_ttft_us],
    "itl": lambda record: record.gaps_us,
    "tpot": lambda record: [record.tpot_us],
    "e2e": lambda record: [record.start_e2e_us],
}
FIGURES: Final = ("ttft_p50", "ttft_p99", "itl_p50", "itl_p99", "tpot_p50", "e2e_p50", "error_rate")
"""What is compared, lower being better in each; `_pNN` is the quantile of a latency."""
