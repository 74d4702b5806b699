"""What every plot shares: its size, its colours, and how it becomes an `<svg>` that fits a phone."""

from __future__ import annotations

import io
import re
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

SIZE_IN = (5.4, 3.1)
WIDE = 20  # a span of values that a linear axis cannot show
INK = "#6b7280"  # readable on a light and on a dark page
BLUE, ORANGE, RED = "#2f7ed8", "#e08214", "#d33f49"
STYLE: Final[Any] = {
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
    "text.parse_math": False,  # a tenant's name with two dollar signs is no formula
}


def canvas() -> tuple[Figure, Axes]:
    """An empty plot; drawn within `mpl.rc_context(STYLE)`."""
    figure = Figure(figsize=SIZE_IN, layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def scale(axes: Axes, values: NDArray[Any]) -> None:
    """A logarithmic x axis where the values [N], all above zero, span more than a linear one can show."""
    if values.max() > WIDE * values.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")


def to_svg(figure: Figure, title: str) -> str:
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
