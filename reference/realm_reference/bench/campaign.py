"""Random requests beside each other, held to each of them alone: the same tokens and logprobs to the bit."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from realm_reference.engine import Engine
from realm_reference.orchestration import Event, GenerationRequest, Orchestrator, Token

SUBJECTS: Final = ("a lighthouse", "the number seven", "rain on a roof", "an old map", "bread and salt")
# Several begin alike, for more than one page.
BEGINNING: Final = "You are a keeper of records who writes down what is said, as it is said. " * 2
ASKED: Final = ("Tell me about {}.", "Repeat after me, twice: {}, {}, {}.", "Why {}? Why not {}?")


@dataclass(frozen=True)
class Settings:
    """Rounds of up to `beside` requests until `seconds` are over, one at least; `most` tokens each. In
    a round they come within `spread` seconds.
    """

    seconds: float = 60.0
    beside: int = 16
    most: int = 48
    spread: float = 0.3
    drafts: int = 4
    seed: int = 7
    adapters: tuple[str, ...] = ()


@dataclass
class Outcome:
    """What came of it; `differing` answers were not those of the request alone."""

    requests: int = 0
    tokens: int = 0
    cancelled: int = 0
    guessing: int = 0
    adapted: int = 0
    differing: int = 0
    steps: int = 0
    rows: int = 0
    sequences: int = 0
    prefix_hit_tokens: int = 0
    preemptions: int = 0
    draft_tokens: int = 0
    draft_accepted: int = 0
    pages_held: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Visit:
    """A request that comes after so many seconds, and leaves after so many tokens (None: at its end)."""

    request: GenerationRequest
    late: float
    leaves: int | None


async def run(settings: Settings, engine: Engine, orchestrator: Orchestrator) -> Outcome:
    """Round after round; afterwards nobody holds a page."""
    draw, outcome, begun = random.Random(settings.seed), Outcome(), time.perf_counter()
    while not outcome.requests or time.perf_counter() - begun < settings.seconds:
        await _round(settings, draw, outcome, orchestrator, engine)
    outcome.pages_held, outcome.seconds = engine.cache_use().bytes, time.perf_counter() - begun
    return outcome


async def _round(
    settings: Settings, draw: random.Random, outcome: Outcome, orchestrator: Orchestrator, engine: Engine
) -> None:
    visits = [_visit(settings, draw, orchestrator) for _ in range(draw.randint(2, settings.beside))]
    before = replace(engine.counters)
    came = await asyncio.gather(*(_came(visit, orchestrator) for visit in visits))
    for name, value in asdict(engine.counters).items():
        if hasattr(outcome, name):
            setattr(outcome, name, getattr(outcome, name) + value - getattr(before, name))
    for visit, said in zip(visits, came, strict=True):
        alone = Visit(replace(visit.request, tenant="alone", draft_tokens=0), 0.0, visit.leaves)
        outcome.differing += said != await _came(alone, orchestrator)
        outcome.requests += 1
        outcome.tokens += sum(isinstance(event, Token) for event in said)
        outcome.cancelled += visit.leaves is not None
        outcome.guessing += visit.request.draft_tokens > 0
        outcome.adapted += bool(visit.request.adapter)


def _visit(settings: Settings, draw: random.Random, orchestrator: Orchestrator) -> Visit:
    subject = draw.choice(SUBJECTS)
    text = draw.choice(("", BEGINNING)) + draw.choice(ASKED).format(*[subject] * 3) + f" {draw.randrange(4)}"
    request = GenerationRequest(
        orchestrator.prepare(text),
        tenant=f"tenant {draw.randrange(3)}",
        max_tokens=draw.randint(1, settings.most),
        temperature=draw.choice((0.0, 0.8, 1.2)),
        top_p=draw.choice((1.0, 0.9)),
        seed=draw.randrange(2**32),
        want_logprobs=True,
        draft_tokens=draw.choice((0, 1, settings.drafts)),
        adapter=draw.choice(("", *settings.adapters)),
    )
    leaves = draw.randint(1, settings.most) if draw.random() < 0.2 else None
    return Visit(request, draw.random() * settings.spread, leaves)


async def _came(visit: Visit, orchestrator: Orchestrator) -> list[Event]:
    """The events until the visitor leaves."""
    await asyncio.sleep(visit.late)
    said: list[Event] = []
    generation = orchestrator.submit(visit.request)
    try:
        async for event in generation:
            said.append(event)
            if len(said) == visit.leaves:
                break
    finally:
        generation.cancel()
    return said


def as_json(settings: Settings, outcome: Outcome) -> dict[str, Any]:
    """All figures."""
    return {"settings": asdict(settings), **asdict(outcome)}


def table(outcome: Outcome) -> list[str]:
    """The figures for a terminal."""
    batch = outcome.sequences / max(outcome.steps, 1)
    said = "each the same alone, bit for bit"
    return [
        f"{outcome.requests} requests, {outcome.tokens} tokens in {outcome.seconds:.0f} s:"
        f" {f'{outcome.differing} DIFFER FROM THEMSELVES ALONE' if outcome.differing else said}",
        f"{outcome.cancelled} of them left early, {outcome.adapted} had an adapter,"
        f" {outcome.guessing} guessed ({outcome.draft_tokens} guesses, {outcome.draft_accepted} kept)",
        f"{outcome.steps} steps, {batch:.1f} sequences a step, {outcome.prefix_hit_tokens} positions found"
        f" in others' pages, {outcome.preemptions} preemptions",
        f"{outcome.pages_held} bytes of pages held at the end",
    ]
