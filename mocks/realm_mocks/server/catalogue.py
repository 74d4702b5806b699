"""All variations by id: the planted defects and the innocent habits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from realm_mocks.server import websocket_habits
from realm_mocks.server.defects import (
    adapters,
    batching,
    drafts,
    errors,
    exact,
    frames,
    framing,
    hostile,
    lifecycle,
    metrics,
    reading,
    sampling,
    shape,
    steering,
    stopping,
    tenants,
    text,
    texts,
    transport,
    usage,
    websocket,
    websocket_answers,
)
from realm_mocks.server.habits import HABIT_LIST
from realm_mocks.server.variation import Variation


def _by_id(*groups: Iterable[Variation]) -> dict[str, Variation]:
    listed = [variation for group in groups for variation in group]
    found = {variation.id: variation for variation in listed}
    if len(found) != len(listed):
        raise ValueError("two variations have the same id")
    return found


DEFECTS: Mapping[str, Variation] = _by_id(
    adapters.DEFECTS,
    framing.DEFECTS,
    batching.DEFECTS,
    drafts.DEFECTS,
    shape.DEFECTS,
    usage.DEFECTS,
    text.DEFECTS,
    texts.DEFECTS,
    stopping.DEFECTS,
    sampling.DEFECTS,
    steering.DEFECTS,
    errors.DEFECTS,
    lifecycle.DEFECTS,
    metrics.DEFECTS,
    transport.DEFECTS,
    hostile.DEFECTS,
    websocket.DEFECTS,
    websocket_answers.DEFECTS,
    frames.DEFECTS,
    tenants.DEFECTS,
    exact.DEFECTS,
    reading.DEFECTS,
)
"""Planted defects: each breaks the contract, and some conformance case must see it."""

HABITS: Mapping[str, Variation] = _by_id(HABIT_LIST, websocket_habits.HABITS, (batching.CACHE_OF_A_TENANT,))
"""Innocent habits of real servers: no conformance case may accuse them."""


def find_variations(defects: Iterable[str], habits: Iterable[str]) -> tuple[Variation, ...]:
    """The variations with these ids; ValueError names an unknown one."""
    found: list[Variation] = []
    for wanted, known, kind in ((defects, DEFECTS, "defect"), (habits, HABITS, "habit")):
        for name in wanted:
            if name not in known:
                raise ValueError(f"unknown {kind} '{name}'; known are: {', '.join(sorted(known))}")
            found.append(known[name])
    return tuple(found)
