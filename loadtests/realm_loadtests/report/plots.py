"""Plots of a run as SVG: small, without a script or a font file, legible on a phone.

Drawn from the records, so that a point on a plot is a request that a reader can look up.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from realm_loadtests.records.records import Record

SIZE_IN = (5.4, 3.1)
RANKING: Final = "inverted_cdf"  # the nearest rank, as in the figures: a plot must not contradict its table
MAX_BINS = 40
CDF_POINTS = 160
WIDE = 20  # a span of values that a linear axis cannot show
SMALLEST_MS = 0.05  # two tokens of one read have no gap, and a logarithmic axis no zero
INK = "#6b7280"  # readable on a light and on a dark page
BLUE, ORANGE, RED = "#2f7ed8", "#e08214", "#d33f49"
STYLE: Any = {
    "font.size": 10,
    "font.family": "sans-serif",
    "svg.fonttype": "none",  # text stays text: smaller, and the reader's own font
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.2,
    "legend.frameon": False,
}


def draw(records: Iterable[Record]) -> dict[str, str]:
    """Draw what the records allow; name -> SVG text. Without a completed request there is nothing to draw."""
    kept = list(records)
    done = [record for record in kept if record.outcome == "completed" and record.token_us]
    if not done:
        return {}
    failed_s = np.array([record.at_us for record in kept if record.outcome == "failed"]) / 1e6
    sent_s = np.array([record.at_us for record in done]) / 1e6
    ttft_ms = np.array([record.start_ttft_us for record in done]) / 1e3
    gaps_us = np.array([gap for record in done for gap in record.gaps_us])
    gaps_ms = np.maximum(gaps_us / 1e3, SMALLEST_MS)
    plots = {
        "ttft_over_time": _over_time(sent_s, ttft_ms, failed_s),
        "ttft_cdf": _cdf(ttft_ms, "time to first token, ms"),
    }
    if gaps_ms.size:
        plots["itl_cdf"] = _cdf(gaps_ms, "time between tokens, ms")
        plots["itl_histogram"] = _histogram(gaps_ms, "time between tokens, ms")
    return plots


def _over_time(
    at_s: NDArray[np.float64], value_ms: NDArray[np.float64], failed_s: NDArray[np.float64]
) -> str:
    """Median and 95th percentile of TTFT [N] by the time of sending [N]; failures as crosses."""
    with mpl.rc_context(STYLE):
        figure, axes = _canvas()
        bins = max(1, min(MAX_BINS, at_s.size // 4))
        edges = np.linspace(0, float(at_s.max()) + 1e-6, bins + 1)
        index = np.digitize(at_s, edges) - 1
        filled = np.unique(index)
        middle = (edges[filled] + edges[filled + 1]) / 2
        for label, colour, rank in (("median", BLUE, 50), ("95 %", ORANGE, 95)):
            line = [np.percentile(value_ms[index == each], rank, method=RANKING) for each in filled]
            axes.plot(middle, line, color=colour, label=label, marker=".", markersize=4)
        if failed_s.size:
            shown = np.unique(np.round(failed_s, 1))[:200]
            axes.plot(shown, np.zeros_like(shown), "x", color=RED, label="failed")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("seconds since the start")
        axes.set_ylabel("time to first token, ms")
        axes.legend(loc="best")
        return _svg(figure, "Time to first token over the run")


def _cdf(values_ms: NDArray[np.float64], label: str) -> str:
    """The share of values [N] at or below each; marks the median and the 99th percentile."""
    with mpl.rc_context(STYLE):
        figure, axes = _canvas()
        ranks = np.linspace(0, 100, CDF_POINTS)
        axes.plot(np.percentile(values_ms, ranks, method=RANKING), ranks, color=BLUE)
        for rank, colour in ((50, BLUE), (99, ORANGE)):
            value = float(np.percentile(values_ms, rank, method=RANKING))
            axes.axvline(value, color=colour, linestyle=":", label=f"p{rank} {value:.4g} ms")
        _scale(axes, values_ms)
        axes.set_xlabel(label)
        axes.set_ylabel("% of all at or below")
        axes.legend(loc="best")
        return _svg(figure, f"Distribution of {label}")


def _histogram(values_ms: NDArray[np.float64], label: str) -> str:
    """How many of the values [N] fall where; counts on a logarithmic axis, so that a single stall shows."""
    with mpl.rc_context(STYLE):
        figure, axes = _canvas()
        low, high = float(values_ms.min()), float(values_ms.max())
        space = np.geomspace if high > WIDE * low else np.linspace
        bins: Sequence[float] = space(low, max(high, low + SMALLEST_MS), MAX_BINS).tolist()
        axes.hist(np.clip(values_ms, bins[0], bins[-1]), bins=bins, color=BLUE)
        axes.set_yscale("log")
        _scale(axes, values_ms)
        axes.set_xlabel(label)
        axes.set_ylabel("number")
        return _svg(figure, f"Histogram of {label}")


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_IN, layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def _scale(axes: Axes, values_ms: NDArray[np.float64]) -> None:
    """A logarithmic axis where the values [N], all above zero, span more than a linear one can show."""
    if values_ms.max() > WIDE * values_ms.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")


def _svg(figure: Figure, title: str) -> str:
    """Render to an `<svg>` element that fits its container; equal data give equal bytes."""
    buffer = io.StringIO()
    # The title salts the ids, so that two plots in one page do not refer to each other's clip paths.
    with mpl.rc_context({"svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', rf'\1 role="img" aria-label="{title}"', svg, count=1)
    return svg.strip()
