"""Answers with any value anywhere: every case still comes to a verdict about the server."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from realm_harness.case import load_cases
from realm_harness.conform import INTERNAL
from realm_harness.score import KEY, run_against
from realm_mocks.server import MockServer
from realm_mocks.server.replies import Event, Reply
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.variation import Variation

VALUES: list[Any] = [
    None, 0, -1, "", [], {}, True, "x", [None], {"a": 1}, 3.5, 10**30, [[]], "\ud800", float("inf"),
]  # fmt: skip
CHAPTERS = {
    "http", "replies", "errors", "auth", "schema", "models", "stream", "same", "utf8", "stop", "length",
    "usage", "sample", "logprobs", "bias", "format", "tokenize", "completions", "tools", "several",
    "exact", "read", "refusals", "metrics", "counts",
}  # fmt: skip
"""Those that read answers; the others take long where a server answers nothing sensible."""


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value inside a value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def mutated(value: Any, draw: random.Random) -> Any:
    """A value with one place lost or changed; now and then it stays as it is."""
    bent = copy.deepcopy(value)
    found = list(places(bent))
    if not found or draw.random() < 0.2:
        return bent
    container, key = draw.choice(found)
    if isinstance(container, dict) and draw.random() < 0.25:
        del container[key]
    else:
        container[key] = draw.choice(VALUES)
    return bent


def any_shape(draw: random.Random) -> Variation:
    """A server that is right four times, so that it is taken for one, and then is not."""
    seen = [0]

    def reply(_: str, whole: Reply) -> Reply:
        seen[0] += 1
        fine = seen[0] <= 4 or not isinstance(whole.body, dict)
        return whole if fine else replace(whole, body=mutated(whole.body, draw))

    def events(_: ChatRequest, plan: list[Event]) -> list[Event]:
        return [replace(e, data=mutated(e.data, draw)) if e.data is not None else e for e in plan]

    return Variation("any-shape", "any value anywhere", "-", reply=reply, events=events)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.timeout(120)
def test_no_case_is_at_a_loss(seed: int) -> None:
    cases = [case for case in load_cases() if case.chapter in CHAPTERS]
    server = MockServer(api_key=KEY)
    server.variations = (any_shape(random.Random(seed)),)
    results = run_against(server, cases)
    lost = [f"{result.case.id}: {result.message}" for result in results if INTERNAL in (result.message or "")]
    assert lost == []
    assert sum(result.verdict == "failed" for result in results) > 10
