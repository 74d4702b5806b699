"""Plots of a run as SVG: small, without a script or a font file, legible on a phone.

Drawn from the records, so that a point on a plot is a request that a reader can look up; what the result
found in them (the end of the warm-up, the tenants, the server's own figures) is marked as it found it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from realm_loadtests.records.records import Record
from realm_loadtests.report.canvas import BLUE, INK, ORANGE, RED, STYLE, WIDE, canvas, scale, to_svg

Floats = NDArray[np.float64]
RANKING: Final = "inverted_cdf"  # the nearest rank, as in the figures: a plot must not contradict its table
MAX_BINS = 40
CDF_POINTS = 160
MOST_TENANTS = 16
SMALLEST_MS = 0.05  # two tokens of one read have no gap, and a logarithmic axis no zero
TTFT, ITL, E2E = "time to first token, ms", "time between tokens, ms", "whole answer, ms"


def draw(records: Iterable[Record], result: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Draw what the records, and a load.json's document of them, allow; name -> SVG text.

    Without a completed request there is nothing to draw.
    """
    kept = list(records)
    done = [record for record in kept if record.outcome == "completed" and record.token_us]
    if not done:
        return {}
    found = result or {}
    with mpl.rc_context(STYLE):
        return (
            _over_time(kept, done, (found.get("steady") or {}).get("warm_up_s"))
            | _distributions(done)
            | _against_load(kept, done)
            | _tenants(found.get("tenants"))
            | _server(found.get("server"))
        )


def _over_time(kept: Sequence[Record], done: Sequence[Record], warm_up_s: float | None) -> dict[str, str]:
    """TTFT by the time of sending; gaps by the time of their end, with the longest of each moment, for a
    stall may be one of thousands. Where the warm-up ended is marked.
    """

    def mark(axes: Axes) -> None:
        failed_s = np.array([record.at_us for record in kept if record.outcome == "failed"]) / 1e6
        if failed_s.size:
            shown = np.unique(np.round(failed_s, 1))[:200]
            axes.plot(shown, np.zeros_like(shown), "x", color=RED, label="failed")
        if warm_up_s:
            axes.axvspan(0, warm_up_s, color=INK, alpha=0.15, linewidth=0, label="warm-up")

    sent_s = np.array([record.at_us for record in done]) / 1e6
    ttft_ms = np.array([record.start_ttft_us for record in done]) / 1e3
    plots = {"ttft_over_time": _over(sent_s, ttft_ms, "seconds since the start", TTFT, 95, mark)}
    gap_s = np.array([(r.at_us + at) / 1e6 for r in done for at in r.token_us[1:]])
    if gap_s.size:
        gaps_ms = np.array([gap for record in done for gap in record.gaps_us]) / 1e3
        plots["itl_over_time"] = _over(gap_s, gaps_ms, "seconds since the start", ITL, 100, mark)
    return plots


def _distributions(done: Sequence[Record]) -> dict[str, str]:
    ttft_ms = np.array([record.start_ttft_us for record in done]) / 1e3
    plots = {"ttft_cdf": _cdf(ttft_ms, TTFT)}
    gaps_us = np.array([gap for record in done for gap in record.gaps_us])
    if gaps_us.size:
        gaps_ms = np.maximum(gaps_us / 1e3, SMALLEST_MS)
        plots["itl_cdf"] = _cdf(gaps_ms, ITL)
        plots["itl_histogram"] = _histogram(gaps_ms, ITL)
    plots["e2e_cdf"] = _cdf(np.array([record.start_e2e_us for record in done]) / 1e3, E2E)
    return plots


def _against_load(kept: Sequence[Record], done: Sequence[Record]) -> dict[str, str]:
    """TTFT against the streams that were open when the request was sent; nothing if they never varied."""
    streams = open_streams(kept, done)
    if np.unique(streams).size < 2:
        return {}
    ttft_ms = np.array([record.start_ttft_us for record in done]) / 1e3
    return {"ttft_against_streams": _over(streams, ttft_ms, "streams open at its sending", TTFT, 95)}


def open_streams(kept: Sequence[Record], done: Sequence[Record]) -> Floats:
    """How many of all requests were open when each of `done` had been sent, itself among them: [done]."""
    begins = np.sort([record.at_us for record in kept])
    ends = np.sort([record.at_us + record.e2e_us for record in kept])
    sent = np.array([record.at_us for record in done])
    begun, ended = np.searchsorted(begins, sent, "right"), np.searchsorted(ends, sent, "right")
    return (begun - ended).astype(np.float64)


def _over(
    x: Floats,
    value_ms: Floats,
    x_label: str,
    label: str,
    high: int,
    mark: Callable[[Axes], None] | None = None,
) -> str:
    """Median and a high percentile of values [N] by x [N], in bins; `mark` adds what else belongs there."""
    figure, axes = canvas()
    bins = max(1, min(MAX_BINS, x.size // 4))
    low = 0.0 if mark else float(x.min())
    edges = np.linspace(low, float(x.max()) + 1e-6, bins + 1)
    index = np.clip(np.digitize(x, edges) - 1, 0, bins - 1)
    filled = np.unique(index)
    middle = [x[index == each].mean() for each in filled]
    for text, colour, rank in (
        ("median", BLUE, 50),
        ("highest" if high == 100 else f"{high} %", ORANGE, high),
    ):
        line = [np.percentile(value_ms[index == each], rank, method=RANKING) for each in filled]
        axes.plot(middle, line, color=colour, label=text, marker=".", markersize=4)
    if mark:
        mark(axes)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(label)
    axes.legend(loc="best")
    return to_svg(figure, f"{label} by {x_label}")


def _cdf(values_ms: Floats, label: str) -> str:
    """The share of values [N] at or below each; marks the median and the 99th percentile."""
    figure, axes = canvas()
    ranks = np.linspace(0, 100, CDF_POINTS)
    axes.plot(np.percentile(values_ms, ranks, method=RANKING), ranks, color=BLUE)
    for rank, colour in ((50, BLUE), (99, ORANGE)):
        value = float(np.percentile(values_ms, rank, method=RANKING))
        axes.axvline(value, color=colour, linestyle=":", label=f"p{rank} {value:.4g} ms")
    scale(axes, values_ms)
    axes.set_xlabel(label)
    axes.set_ylabel("% of all at or below")
    axes.legend(loc="best")
    return to_svg(figure, f"Distribution of {label}")


def _histogram(values_ms: Floats, label: str) -> str:
    """How many of the values [N] fall where; counts on a logarithmic axis, so that a single stall shows."""
    figure, axes = canvas()
    low, high = float(values_ms.min()), float(values_ms.max())
    space = np.geomspace if high > WIDE * low else np.linspace
    bins: Sequence[float] = space(low, max(high, low + SMALLEST_MS), MAX_BINS).tolist()
    axes.hist(np.clip(values_ms, bins[0], bins[-1]), bins=bins, color=BLUE)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    scale(axes, values_ms)
    axes.set_xlabel(label)
    axes.set_ylabel("number")
    return to_svg(figure, f"Histogram of {label}")


def _tenants(found: Mapping[str, Any] | None) -> dict[str, str]:
    """Each tenant's tokens a second, as bars, beside an even share; of many those with the most."""
    each = {name: part["tokens_per_second"] or 0.0 for name, part in (found or {}).get("each", {}).items()}
    if len(each) < 2:
        return {}
    shown = sorted(each, key=lambda name: (-each[name], name))[:MOST_TENANTS]
    figure, axes = canvas()
    labels = [name if len(name) < 16 else name[:14] + "…" for name in shown]
    places = np.arange(len(shown))
    axes.barh(places, [each[name] for name in shown], color=BLUE)
    axes.set_yticks(places, labels, fontsize=10 if len(shown) <= 8 else 7)
    axes.invert_yaxis()
    axes.axvline(sum(each.values()) / len(each), color=ORANGE, linestyle=":", label="an even share")
    axes.set_xlabel("tokens a second")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1))
    return {"tokens_by_tenant": to_svg(figure, "Tokens a second of each tenant")}


def _server(found: Mapping[str, Any] | None) -> dict[str, str]:
    """What the server said it was running and keeping waiting, over the time of the run."""
    points = (found or {}).get("over_time") or []
    lines = {
        name: [(point["at_s"], point[name]) for point in points if point.get(name) is not None]
        for name in ("running", "waiting")
    }
    if not any(len(line) > 1 for line in lines.values()):
        return {}
    figure, axes = canvas()
    for (name, line), colour in zip(lines.items(), (BLUE, ORANGE), strict=True):
        if line:
            at_s, number = zip(*line, strict=True)
            axes.plot(at_s, number, color=colour, label=name, marker=".", markersize=4)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds since the start")
    axes.set_ylabel("requests, by the server's metrics")
    axes.legend(loc="best")
    return {"server_over_time": to_svg(figure, "What the server said of itself")}


def draw_knee(knee: Mapping[str, Any]) -> dict[str, str]:
    """Draw a knee.json's document: whether the objectives hold, and what was seen, by rate."""
    steps = knee["steps"]
    rates = np.array([step["rate"] for step in steps])
    if len(rates) < 2:
        return {}
    shares = [100 * step["holds"] for step in steps]
    lines = {
        "holds_by_rate": ("% of resamples in which they hold", {"": shares}),
        "ttft_by_rate": (TTFT, {"p50": _seen(steps, "ttft_p50_ms"), "p99": _seen(steps, "ttft_p99_ms")}),
        "throughput_by_rate": ("tokens a second", {"": _seen(steps, "tokens_per_second")}),
    }
    with mpl.rc_context(STYLE):
        return {name: _by_rate(knee, rates, label, each) for name, (label, each) in lines.items()}


def _seen(steps: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [np.nan if (value := step["figures"].get(name)) is None else value for step in steps]


def _by_rate(knee: Mapping[str, Any], rates: Floats, label: str, lines: Mapping[str, Sequence[float]]) -> str:
    """Lines by the rate of arrivals [N], with the knee and its interval."""
    figure, axes = canvas()
    for (name, line), colour in zip(lines.items(), (BLUE, ORANGE), strict=False):
        axes.plot(rates, line, color=colour, label=name or None, marker=".", markersize=6)
    if knee["rate"] is not None:
        low, high = knee["low"] or rates[0], knee["high"] or rates[-1]
        axes.axvspan(low, high, color=INK, alpha=0.15, linewidth=0)
        axes.axvline(knee["rate"], color=RED, linestyle=":", label=f"the knee, {knee['rate']:.4g}")
    scale(axes, rates)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("requests a second")
    axes.set_ylabel(label)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best")
    return to_svg(figure, f"{label} by rate")
