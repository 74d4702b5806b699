"""Whether one side's runs differ from another's: differences with intervals, and a verdict for a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from realm_loadtests.figures.resampling import CONFIDENCE, RESAMPLES, Floats, Runs, Sample, interval


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


def compare(a: Runs, b: Runs, *, threshold: float, seed: int, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Compare two sides' runs. A change beyond `threshold` (0.05 is 5 %) in its whole interval is a verdict.

    Raises ValueError if a side has no completed request.
    """
    sides = [Sample(a), Sample(b)]
    for name, side in zip("AB", sides, strict=True):
        if not side.completed.any():
            raise ValueError(f"{name} has no completed request to compare")
    draw = np.random.default_rng(seed)
    weights = [[side.redraw(draw) for _ in range(resamples)] for side in sides]
    found = [_difference(name, sides, weights, threshold) for name in FIGURES]
    ttfts = [side.values["ttft"][0] for side in sides]
    return {
        "schema": "realm-compare/1",
        "threshold": threshold,
        "confidence": CONFIDENCE,
        "resamples": resamples,
        "seed": seed,
        "runs": {name: len(runs) for name, runs in (("a", a), ("b", b))},
        "requests": {name: sum(map(len, runs)) for name, runs in (("a", a), ("b", b))},
        "effect": {"ttft_cliffs_delta": _cliffs_delta(*ttfts)},
        "figures": [asdict(each) for each in found if each is not None],
    }


def since(now: dict[str, Any], then: dict[str, Any]) -> list[dict[str, Any]]:
    """How B's ratio to A changed from an earlier comparison to this one, figure by figure.

    A is a yardstick that did not change: what the machine is, and what else it does, is in both its times and
    B's. Both comparisons' intervals widen this one's; a share (error_rate) is compared by its difference.
    """
    earlier = {each["figure"]: each for each in then["figures"]}
    found = []
    for each in now["figures"]:
        old = earlier.get(each["figure"])
        if old is None:
            continue
        change, low, high = (
            _growth(each["figure"], each[mine], old[theirs])
            for mine, theirs in (("change", "change"), ("low", "high"), ("high", "low"))
        )
        verdict = _verdict(low, high, now["threshold"])
        found.append(
            {"figure": each["figure"], "change": change, "low": low, "high": high, "verdict": verdict}
        )
    return found


def _growth(name: str, now: float, then: float) -> float:
    return now - then if name == "error_rate" else (1 + now) / max(1 + then, 1e-9) - 1


def _difference(
    name: str, sides: Sequence[Sample], weights: Sequence[Sequence[Floats]], threshold: float
) -> Difference | None:
    a, b = (side.figure(name, np.ones(len(side.failed))) for side in sides)
    drawn = np.array([[side.figure(name, w) for w in ws] for side, ws in zip(sides, weights, strict=True)])
    changes = _change(name, drawn[0], drawn[1])
    ends = interval(changes)
    if not np.isfinite([a, b]).all() or ends is None:
        return None
    low, high = ends
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


FIGURES: Final = ("ttft_p50", "ttft_p99", "itl_p50", "itl_p99", "tpot_p50", "e2e_p50", "error_rate")
"""What is compared, lower being better in each; `_pNN` is the quantile of a latency."""
