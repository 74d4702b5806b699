"""The course of a run, for a terminal: its outages, and what drifted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def course(result: Mapping[str, Any]) -> list[str]:
    """Lines on when nothing was completed, and on the figures whose last third differs from the first."""
    lines = [_outage(each) for each in result["outages"]]
    found = result["drift"]
    moved = [each for each in found["figures"] if each["verdict"] in ("worse", "better")] if found else []
    lines += [
        f"  Drift: {each['figure']} {each['change']:+.1%} from the first to the last third of the run "
        f"(95 % interval {each['low']:+.1%} to {each['high']:+.1%})"
        for each in moved
    ]
    if found and not moved:
        lines.append(
            "  No drift: the last third of the run is like the first, within 5 % or what can be told"
        )
    return ["", *lines] if lines else []


def _outage(found: Mapping[str, Any]) -> str:
    begin = "the start" if found["from_s"] is None else f"{found['from_s']:.1f} s"
    end = "the end" if found["to_s"] is None else f"{found['to_s']:.1f} s"
    kinds = ", ".join(f"{kind} {count}" for kind, count in found["errors"].items())
    return f"  From {begin} to {end} nothing was completed: {found['failed']} failed ({kinds})"
