"""Latencies and counts of a run, in a form that adds up exactly over processes.

Latencies are HDR histograms in microseconds with three significant digits: any percentile within 0.1 %,
constant memory, and adding two of them loses nothing, which is true of no list of percentiles. (Locust's own
statistics round to two digits and are not used for any figure.)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
from hdrh.histogram import HdrHistogram

from realm_loadtests.records.records import Record

HIGHEST_US = 3_600_000_000
SIGNIFICANT_DIGITS = 3


class Latency:
    """A histogram of durations in microseconds."""

    def __init__(self, encoded: str | None = None) -> None:
        self._histogram: Any = HdrHistogram(1, HIGHEST_US, SIGNIFICANT_DIGITS)
        self.total_us = 0
        if encoded:
            self._histogram.decode_and_add(encoded)

    def record(self, value_us: int) -> None:
        """Add one duration; anything over an hour counts as an hour."""
        self._histogram.record_value(min(value_us, HIGHEST_US))
        self.total_us += value_us

    def add(self, other: Latency) -> None:
        """Add another histogram to this one, exactly."""
        if other.count:  # adding an empty one would make this one's minimum 0
            self._histogram.add(other._histogram)
            self.total_us += other.total_us

    @property
    def count(self) -> int:
        """How many durations were recorded."""
        return int(self._histogram.get_total_count())

    @property
    def mean_us(self) -> float:
        """The exact mean (not the histogram's): NaN without durations."""
        return self.total_us / self.count if self.count else math.nan

    def quantiles_us(self, ranks: Sequence[float]) -> list[float]:
        """The smallest value that at least `rank` (0 to 1) of all durations do not exceed, for each rank.

        Rounded up within the histogram's 0.1 %. NaN without durations. The library's own look-up rounds the
        rank to the nearest (a maximum can vanish from a p99 of 60 values), and its walk in Python would
        stop the users for milliseconds in a live view.
        """
        if not self.count:
            return [math.nan] * len(ranks)
        counts = np.frombuffer(self._histogram.counts, dtype=np.uint64)
        filled = np.flatnonzero(counts)
        cumulated = np.cumsum(counts[filled])
        wanted = [max(1, math.ceil(rank * self.count - 1e-9)) for rank in ranks]
        buckets = filled[np.searchsorted(cumulated, wanted)]
        highest = self._histogram.get_highest_equivalent_value
        return [float(highest(self._histogram.get_value_from_index(int(bucket)))) for bucket in buckets]

    def encode(self) -> str:
        """The histogram in HdrHistogram's V2 format, compressed, in base64."""
        return str(self._histogram.encode().decode("ascii"))

    def to_json(self) -> dict[str, Any]:
        """The histogram with its exact sum, for `from_json`."""
        return {"hdr": self.encode(), "total_us": self.total_us}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        latency = cls(document["hdr"])
        latency.total_us = document["total_us"]
        return latency


@dataclass
class Measures:
    """All figures of a run, or of a part of it; `add` takes a request, `merge` another part.

    `decode_us`, `decode_tokens` and `decode_events` are, over the completed requests, the time between first
    and last token event, the tokens after the first and the token events after it; `window_tokens` and
    `window_events` are those that came before the run's end. `ttft`, `first_event` and `e2e` count from the
    intended start; `ttft_sent`, `e2e_sent` and `late` have values in an open loop only: the same from the
    sending, and how late that was. `lag` is how late the generator itself was woken; `window_s` is the length
    of the run without its drain.
    """

    ttft: Latency = field(default_factory=Latency)
    first_event: Latency = field(default_factory=Latency)
    itl: Latency = field(default_factory=Latency)
    e2e: Latency = field(default_factory=Latency)
    tpot: Latency = field(default_factory=Latency)
    ttft_sent: Latency = field(default_factory=Latency)
    e2e_sent: Latency = field(default_factory=Latency)
    late: Latency = field(default_factory=Latency)
    lag: Latency = field(default_factory=Latency)
    completed: int = 0
    failed: int = 0
    cut: int = 0
    cancelled: int = 0
    slow: int = 0
    without_text: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    counted_by: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    prompt_tokens: int = 0
    window_tokens: int = 0
    window_events: int = 0
    decode_us: int = 0
    decode_tokens: int = 0
    decode_events: int = 0
    token_events: int = 0
    lost_workers: int = 0
    cpu_s: float = 0.0
    window_s: float = 0.0

    @classmethod
    def of(cls, records: Iterable[Record]) -> Self:
        """Rebuild the measures of a run from its records; the window then ends with the last of them."""
        measures = cls()
        for record in records:
            measures.add(record)
            measures.window_s = max(measures.window_s, (record.at_us + record.e2e_us) / 1e6)
        return measures

    @property
    def requests(self) -> int:
        """Requests that were sent, however they ended."""
        return self.completed + self.failed + self.cut + self.cancelled + self.slow

    def add(self, record: Record) -> None:
        """Count one request; only a completed one contributes latencies."""
        self.token_events += len(record.token_us)
        if record.late_us is not None:
            self.late.record(record.late_us)
        if record.outcome == "failed":
            self.failed += 1
            self.errors[record.error or "unknown"] += 1
            return
        self.window_tokens += record.window_tokens
        self.window_events += record.window_events
        if record.outcome != "completed":
            setattr(self, record.outcome, getattr(self, record.outcome) + 1)
            return
        self.completed += 1
        self.counted_by[record.tokens_by] += 1
        self.tokens += record.tokens
        self.prompt_tokens += record.prompt_tokens or 0
        self.e2e.record(record.start_e2e_us)
        if record.late_us is not None:
            self.e2e_sent.record(record.e2e_us)
        if record.first_event_us is not None:
            self.first_event.record(record.first_event_us + (record.late_us or 0))
        if record.ttft_us is None or record.start_ttft_us is None:
            self.without_text += 1
            return
        self.ttft.record(record.start_ttft_us)
        if record.late_us is not None:
            self.ttft_sent.record(record.ttft_us)
        if record.tpot_us is not None:
            self.tpot.record(round(record.tpot_us))
        for gap in record.gaps_us:
            self.itl.record(gap)
        if len(record.token_us) > 1:
            self.decode_us += record.token_us[-1] - record.token_us[0]
            self.decode_tokens += record.tokens - 1
            self.decode_events += len(record.token_us) - 1

    def merge(self, other: Measures) -> None:
        """Add another part of the same run; the parts ran at the same time, so the windows are not summed."""
        for name in _LATENCIES:
            getattr(self, name).add(getattr(other, name))
        for name in ("errors", "counted_by"):
            getattr(self, name).update(getattr(other, name))
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.window_s = max(self.window_s, other.window_s)

    def to_json(self) -> dict[str, Any]:
        """Everything, exactly, for `from_json`."""
        latencies = {name: getattr(self, name).to_json() for name in _LATENCIES}
        counters = {name: dict(getattr(self, name)) for name in ("errors", "counted_by")}
        return latencies | counters | {name: getattr(self, name) for name in (*_SUMS, "window_s")}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        values: dict[str, Any] = {name: document[name] for name in (*_SUMS, "window_s")}
        values |= {name: Latency.from_json(document[name]) for name in _LATENCIES}
        values |= {name: Counter(document[name]) for name in ("errors", "counted_by")}
        return cls(**values)


_LATENCIES = ("ttft", "first_event", "itl", "e2e", "tpot", "ttft_sent", "e2e_sent", "late", "lag")
_SUMS = tuple(
    each.name
    for each in fields(Measures)
    if each.name not in (*_LATENCIES, "errors", "counted_by", "window_s")
)
