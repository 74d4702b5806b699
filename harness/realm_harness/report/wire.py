"""Wire logs cut to a size that a page can carry, with the evidence of failures first in line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from realm_harness.report.model import Case, WireEvent
from realm_harness.report.text import clip

# Characters of wire log: one event, one case (broken / other), the whole report.
MAX_EVENT = 4_000
MAX_BROKEN_CASE = 48_000
MAX_OTHER_CASE = 12_000
MAX_REPORT = 3_000_000
# A row costs markup too, so one-byte reads must not be free.
_ROW_COST = 60


@dataclass(frozen=True)
class WireView:
    """The shown part of a case's wire log; `note` says what is missing from it."""

    events: tuple[WireEvent, ...]
    note: str


def wire_views(cases: Sequence[Case]) -> dict[str, WireView]:
    """What to show of each case's wire log, by case id; broken cases are served first."""
    left = MAX_REPORT
    views = {}
    for case in sorted(cases, key=lambda case: case.verdict not in ("failed", "non_strict")):
        broken = case.verdict in ("failed", "non_strict")
        view, spent = _cut(case.wire, min(left, MAX_BROKEN_CASE if broken else MAX_OTHER_CASE))
        views[case.id] = view
        left -= spent
    return views


def _cut(wire: tuple[WireEvent, ...], budget: int) -> tuple[WireView, int]:
    shown: list[WireEvent] = []
    spent = 0
    for event in wire:
        text = clip(event.text, MAX_EVENT)
        cost = len(text) + _ROW_COST
        if spent + cost > budget:
            break
        shown.append(WireEvent(event.t_ms, event.sent, text))
        spent += cost
    hidden = len(wire) - len(shown)
    note = (
        f"{hidden:,} more of {len(wire):,} events are left out here; all are in report.json."
        if hidden
        else ""
    )
    return WireView(tuple(shown), note), spent
