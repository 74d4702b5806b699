"""The highest rate at which the objectives still hold, with an interval: step to saturation.

An open loop of Poisson arrivals at each rate, doubling until the objectives break, then halving the gap, in
ratio. Each rate's run is drawn again (see `resampling`): the share of resamples that keep the objectives says
how sure its verdict is. The knee is where that share passes one half; its interval reaches from the highest
rate that holds in 97.5 % of them to the lowest that holds in 2.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from realm_loadtests.figures.resampling import Sample
from realm_loadtests.figures.slo import Objective
from realm_loadtests.records.records import Record

RESAMPLES: Final = 200
SURE: Final = 0.975


@dataclass(frozen=True)
class Step:
    """One rate, requests a second: the share of resamples in which the objectives hold, and whether the
    generator may have been the bottleneck, in which case the rate proves nothing; and what was seen at it.
    """

    rate: float
    holds: float
    client_limited: bool
    figures: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Knee:
    """The steps by rate, and what they show: None where the rates did not reach so far."""

    steps: tuple[Step, ...]
    rate: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return {"schema": "realm-knee/1", **asdict(self)}


def find(step: Callable[[float], Step], lowest: float, highest: float, refinements: int) -> Knee:
    """Search between the rates; `step` runs one. At most log2(highest / lowest) + 1 + `refinements` steps."""
    steps = [step(lowest)]
    while steps[-1].holds >= 0.5 and steps[-1].rate < highest:
        steps.append(step(min(2 * steps[-1].rate, highest)))
    if len(steps) > 1 and steps[-1].holds < 0.5:
        good, bad = steps[-2], steps[-1]
        for _ in range(refinements):
            middle = step(math.sqrt(good.rate * bad.rate))
            steps.append(middle)
            good, bad = (middle, bad) if middle.holds >= 0.5 else (good, middle)
    return _judge(sorted(steps, key=lambda each: each.rate))


def holds(records: Sequence[Record], objectives: Sequence[Objective], seed: int) -> float:
    """The share of resamples of the requests in which every latency and error objective holds.

    Rates (tokens_per_second, requests_per_second) are no property of a request and are not judged here.
    """
    sample, draw = Sample([records]), np.random.default_rng(seed)
    judged = [objective for objective in objectives if objective.resampled is not None]
    if not sample.completed.any():
        return 0.0
    kept = 0
    for _ in range(RESAMPLES):
        weights = sample.redraw(draw)
        kept += all(each.holds(sample.figure(each.resampled or "", weights)) for each in judged)
    return kept / RESAMPLES


def _judge(steps: Sequence[Step]) -> Knee:
    """Interpolate, in the logarithm of the rate, over steps of ascending rate."""
    broken = next((index for index, step in enumerate(steps) if step.holds < 0.5), None)
    sure = [step.rate for step in steps[:broken] if step.holds >= SURE]
    lost = [step.rate for step in steps if step.holds <= 1 - SURE]
    low, high = max(sure, default=None), min(lost, default=None)
    if broken is None or broken == 0:
        return Knee(tuple(steps), None, low, high)
    good, bad = steps[broken - 1], steps[broken]
    part = (good.holds - 0.5) / (good.holds - bad.holds)
    rate = math.exp(math.log(good.rate) + part * math.log(bad.rate / good.rate))
    return Knee(tuple(steps), round(rate, 4), low, high)
