"""Stalls: gaps in a stream far longer than the run's usual one, each counted, none averaged away.

A gap is one when it is longer than `factor` times the median of all gaps of the run (a setting of it), and
than `SHORTEST_MS`: a stream whose tokens come in bunches has a median near 0. A token that is 200 ms late
makes a stall wherever the median is below 200 / (factor - 1) ms; with the factor 4 that is 66 ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from realm_loadtests.records.measures import Latency
from realm_loadtests.records.records import Record

SHORTEST_MS: Final = 10.0
"""As late as a generator may wake without being called the bottleneck (`LATE_MS`)."""


def threshold_us(gaps: Latency, factor: float) -> float:
    """Above how many microseconds a gap of a run is a stall; infinite without gaps."""
    if not gaps.count:
        return float("inf")
    return max(factor * gaps.quantiles_us([0.5])[0], 1000 * SHORTEST_MS)


def find(records: Iterable[Record], limit_us: float) -> tuple[dict[str, Any], Latency]:
    """The stalls of the completed requests, and their lengths.

    The counts: `count` stalls, in `streams` of `of_streams` (`share_of_streams`), and `share_of_time`, their
    part of all the time between first and last tokens. A share of nothing is None.
    """
    lengths = Latency()
    streams = stalled = decode_us = 0
    for record in records:
        if record.outcome != "completed" or not record.token_us:
            continue
        long = [gap for gap in record.gaps_us if gap > limit_us]
        for gap in long:
            lengths.record(gap)
        streams, stalled = streams + 1, stalled + bool(long)
        decode_us += record.token_us[-1] - record.token_us[0]
    return {
        "count": lengths.count,
        "streams": stalled,
        "of_streams": streams,
        "share_of_streams": round(stalled / streams, 6) if streams else None,
        "share_of_time": round(lengths.total_us / decode_us, 6) if decode_us else None,
    }, lengths
