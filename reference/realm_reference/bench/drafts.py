"""Speculation held to plain decoding: the same tokens, and how much sooner they come."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import Any, Final

from realm_reference.engine import Engine
from realm_reference.orchestration import Event, GenerationRequest, Orchestrator, Token

TEMPERATURES: Final = (0.0, 0.8)
KINDS: Final = {
    "copying": (
        "Repeat this text word for word, twice:\nThe keeper of the lighthouse counted {n} ships on the first"
        " day, {m} ships on the second day and no ships on the third day, and wrote all of it in the book.\n"
    ),
    "prose": "Write a short story about a lighthouse keeper who has {n} cats and {m} lamps.\n",
}


@dataclass(frozen=True)
class Settings:
    """How much is generated: `tokens` in all, `length` a text at most, `guesses` at a time; `first` is the
    number of the first text, for runs that together are a longer one.
    """

    tokens: int = 10_000
    length: int = 128
    guesses: int = 3
    temperatures: tuple[float, ...] = TEMPERATURES
    first: int = 0


@dataclass
class Row:
    """One kind of text at a temperature; `speedups`: of each text, plain seconds over those with guesses."""

    kind: str
    temperature: float
    texts: int = 0
    tokens: int = 0
    differing: int = 0
    made: int = 0
    kept: int = 0
    speedups: list[float] = field(default_factory=list)

    @property
    def speedup(self) -> float:
        """The median."""
        return statistics.median(self.speedups)

    @property
    def acceptance(self) -> float:
        """Guesses that came true, of all."""
        return self.kept / self.made if self.made else 0.0


async def run(settings: Settings, engine: Engine, orchestrator: Orchestrator) -> list[Row]:
    """Each text plain and with guesses, in turns, until there are tokens enough of every kind."""
    rows = [Row(kind, temperature) for kind in KINDS for temperature in settings.temperatures]
    share = -(-settings.tokens // len(rows))
    for row in rows:
        numbers: Iterator[int] = count(settings.first)
        while row.tokens < share:
            await _text(row, next(numbers), settings, engine, orchestrator)
    return rows


async def _text(
    row: Row, number: int, settings: Settings, engine: Engine, orchestrator: Orchestrator
) -> None:
    prompt = orchestrator.prepare(KINDS[row.kind].format(n=number + 2, m=3 * number + 5))
    plain = GenerationRequest(
        prompt,
        tenant="plain",  # each way has pages of its own: who comes second finds no prompt of the first
        max_tokens=settings.length,
        temperature=row.temperature,
        seed=number,
        want_logprobs=True,
    )
    guessed = replace(plain, tenant="guessed", draft_tokens=settings.guesses)
    counters = engine.counters
    made, kept = counters.draft_tokens, counters.draft_accepted
    ways = (plain, guessed) if number % 2 else (guessed, plain)
    results = {way.draft_tokens: await _timed(orchestrator, way) for way in ways}
    (due, slow), (came, fast) = results[0], results[settings.guesses]
    row.texts += 1
    row.tokens += sum(isinstance(event, Token) for event in due)
    row.differing += came != due
    row.made += counters.draft_tokens - made
    row.kept += counters.draft_accepted - kept
    row.speedups.append(slow / fast)


async def _timed(orchestrator: Orchestrator, request: GenerationRequest) -> tuple[list[Event], float]:
    begun = time.perf_counter()
    events = [event async for event in orchestrator.submit(request)]
    return events, time.perf_counter() - begun


def as_json(settings: Settings, rows: list[Row]) -> dict[str, Any]:
    """All figures."""
    return {
        "settings": asdict(settings),
        "rows": [asdict(row) | {"speedup": row.speedup, "acceptance": row.acceptance} for row in rows],
    }


def table(settings: Settings, rows: list[Row]) -> list[str]:
    """The figures for a terminal."""
    lines = [
        f"{'text':<9} {'temp.':>5} {'texts':>5} {'tokens':>7} {'differing':>9} {'guesses':>8}"
        f" {'kept':>5} {'speed-up':>8}"
    ]
    lines += [
        f"{row.kind:<9} {row.temperature:>5} {row.texts:>5} {row.tokens:>7} {row.differing:>9} {row.made:>8}"
        f" {row.acceptance:>5.0%} {row.speedup:>7.2f}x"
        for row in rows
    ]
    tokens, differing = sum(row.tokens for row in rows), sum(row.differing for row in rows)
    said = "every text is the same, bit for bit" if not differing else f"{differing} TEXTS DIFFER"
    return [*lines, f"{tokens} tokens with {settings.guesses} guesses at a time: {said}"]
