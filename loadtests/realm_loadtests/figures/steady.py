"""Where a run's warm-up ends: found in its own figures, not guessed.

MSER-5 (White 1997, https://doi.org/10.1177/003754979706900601): cut off the beginning whose removal makes
the standard error of the rest's mean smallest, over means of five. If that is half of the run or more, it
never became steady.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from realm_loadtests.records.records import Record

BATCH: Final = 5
FEWEST: Final = 10
"""Batches without which nothing is said."""


def warm_up_s(records: Sequence[Record]) -> float | None:
    """Seconds from the start of the run to the sending of the first request of its steady part, by TTFT.

    0 means steady from the beginning; None that it never was, or that there are too few requests to tell.
    """
    done = sorted((r for r in records if r.outcome == "completed" and r.token_us), key=lambda r: r.at_us)
    count = len(done) // BATCH
    if count < FEWEST:
        return None
    ttft = np.array([record.start_ttft_us for record in done[: count * BATCH]], np.float64)
    means = ttft.reshape(count, BATCH).mean(axis=1)
    # [count / 2] marginal standard errors, one for each number of batches cut off
    errors = [means[cut:].var() / (count - cut) for cut in range(count // 2 + 1)]
    best = int(np.argmin(errors))
    if best == count // 2:
        return None
    return round(done[best * BATCH].at_us / 1e6, 3) if best else 0.0
