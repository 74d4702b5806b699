"""Drawing a run's requests again: what its figures might have been (bootstrap, Efron 1979).

Requests are the unit: the gaps of one stream belong together, and pooled gaps would make an interval far too
narrow. With several runs, runs are drawn first and requests within them, because two runs of the same server
differ too. Percentile intervals, seeded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from realm_loadtests.records.records import Record

Floats = NDArray[np.float64]
Runs = Sequence[Sequence[Record]]
"""The requests of each of several runs."""

RESAMPLES: Final = 1000
FEWEST_RESAMPLES: Final = 100
_MOST_WORK: Final = 50_000_000  # values times resamples: some seconds
CONFIDENCE: Final = 0.95
_TAILS: Final = (50 * (1 - CONFIDENCE), 100 - 50 * (1 - CONFIDENCE))


class Sample:
    """Requests as arrays: for each latency its values, ascending, and whose each is."""

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
    # -> [values], [values]
    each = [
        [value for value in of(record) if value is not None] if record.outcome == "completed" else []
        for record in records
    ]
    owners = np.repeat(np.arange(len(each)), [len(values) for values in each])
    values = np.fromiter(itertools.chain.from_iterable(each), np.float64, len(owners)) / 1000
    order = np.argsort(values, kind="stable")
    return values[order], owners[order]


def interval(drawn: Floats) -> tuple[float, float] | None:
    """The middle 95 % of a figure's values over the resamples; None without any."""
    kept = drawn[np.isfinite(drawn)]
    if not len(kept):
        return None
    low, high = np.percentile(kept, _TAILS)
    return float(low), float(high)


def affordable(values: int) -> int:
    """How many resamples of so many values are drawn."""
    return max(FEWEST_RESAMPLES, min(RESAMPLES, _MOST_WORK // max(1, values)))


def intervals(records: Sequence[Record], names: Sequence[str], seed: int) -> dict[str, list[float] | None]:
    """The 95 % interval of each figure of one run, in milliseconds or as a share; None if there is none.

    A run of very many tokens is drawn fewer times, `FEWEST_RESAMPLES` at least.
    """
    sample, draw = Sample([records]), np.random.default_rng(seed)
    if not len(sample.failed):
        return dict.fromkeys(names)
    drawn: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(affordable(sum(len(values) for values, _ in sample.values.values()))):
        weights = sample.redraw(draw)
        for name in names:
            drawn[name].append(sample.figure(name, weights))
    found = {name: interval(np.array(values)) for name, values in drawn.items()}
    return {name: [round(end, 4) for end in ends] if ends else None for name, ends in found.items()}


LATENCIES: Final[dict[str, Callable[[Record], Sequence[float | None]]]] = {
    "ttft": lambda record: [record.start_ttft_us],
    "itl": lambda record: record.gaps_us,
    "tpot": lambda record: [record.tpot_us],
    "e2e": lambda record: [record.start_e2e_us],
}
