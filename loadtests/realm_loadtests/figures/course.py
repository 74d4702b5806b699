"""The course of a run: when nothing was completed, and whether its end is like its begin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from realm_loadtests.figures.comparison import compare
from realm_loadtests.figures.resampling import affordable
from realm_loadtests.records.records import Record

FEWEST_FAILURES: Final = 5
"""So many requests that end one after the other, all of them failed, are an outage."""
SHORTEST_SOAK_S: Final = 30.0
"""A shorter run says nothing of a drift."""
DRIFT_THRESHOLD: Final = 0.05


def outages(records: Sequence[Record]) -> list[dict[str, Any]]:
    """When every request that ended had failed: after the last success before, until the first one after.

    `from_s` and `to_s` are seconds of the run, None where there was no success; `errors` counts their names.
    """
    ended = sorted(
        (
            (record.at_us + record.e2e_us, record)
            for record in records
            if record.outcome in ("completed", "failed")
        ),
        key=lambda each: each[0],
    )
    found: list[dict[str, Any]] = []
    last_success: float | None = None
    for failed, group in groupby(ended, key=lambda each: each[1].outcome == "failed"):
        part = list(group)
        if not failed:
            if found and found[-1]["to_s"] is None:
                found[-1]["to_s"] = part[0][0] / 1e6
            last_success = part[-1][0] / 1e6
        elif len(part) >= FEWEST_FAILURES:
            errors = Counter(record.error or "unknown" for _, record in part)
            found.append(
                {
                    "from_s": last_success,
                    "to_s": None,
                    "failed": len(part),
                    "errors": dict(errors.most_common()),
                }
            )
    return found


def drift(records: Sequence[Record], from_s: float, to_s: float, seed: int) -> dict[str, Any] | None:
    """How the last third of the time from `from_s` (the warm-up's end) to `to_s` differs from the first, as
    `compare` says it of two sides; None where the run was too short, or a third completed nothing.
    """
    third = (to_s - from_s) / 3
    if to_s - from_s < SHORTEST_SOAK_S:
        return None
    sent = [(record.at_us / 1e6, record) for record in records]
    first = [record for at, record in sent if from_s <= at < from_s + third]
    last = [record for at, record in sent if to_s - third <= at]
    try:
        resamples = affordable(sum(len(record.token_us) for _, record in sent))
        found = compare([first], [last], threshold=DRIFT_THRESHOLD, seed=seed, resamples=resamples)
    except ValueError:
        return None
    return {"third_s": round(third, 3), "requests": found["requests"], "figures": found["figures"]}
