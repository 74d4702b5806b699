"""What a batch of tokens takes: by the model alone, through the engine, and with a guest a sequence."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from realm_reference.engine import Engine, Session
from realm_reference.model.runner import PAGE, Chunk, Floats, Runner
from realm_reference.orchestration import (
    Failed,
    Finished,
    Generation,
    GenerationRequest,
    Orchestrator,
    Prompt,
)

PROMPT_TOKENS: Final = 32


@dataclass(frozen=True)
class BatchCost:
    """Tokens a second of `batch` sequences at once, medians; `in_a_step` sequences were in a step, on
    average, with guests.
    """

    batch: int
    model: float
    engine: float
    guests: float
    in_a_step: float


def prompt(number: int, tokens: int = PROMPT_TOKENS) -> list[int]:
    """Ids of a prompt that begins like no other."""
    return [3 + number % 199, *(5 + (number * 31 + place * 7) % 190 for place in range(tokens - 1))]


def measure(
    runner: Runner,
    engine: Engine,
    orchestrator: Orchestrator,
    batches: Sequence[int],
    tokens: int,
    repeat: int,
) -> list[BatchCost]:
    """All of it in turns. The runner is another than the engine's, of the same model, without pages yet."""
    runner.reserve(max(batches) * _pages(tokens))
    rates: dict[tuple[int, str], list[float]] = {}
    sizes: dict[int, list[float]] = {}
    for _ in range(repeat):
        for batch in batches:
            rates.setdefault((batch, "model"), []).append(_model(runner, batch, tokens))
            rates.setdefault((batch, "engine"), []).append(_engine(engine, batch, tokens))
            counters = engine.counters
            steps, sequences = counters.steps, counters.sequences
            rates.setdefault((batch, "guests"), []).append(asyncio.run(_guests(orchestrator, batch, tokens)))
            size = (counters.sequences - sequences) / (counters.steps - steps)
            sizes.setdefault(batch, []).append(size)
    median = {key: statistics.median(values) for key, values in rates.items()}
    return [
        BatchCost(
            batch, median[batch, "model"], median[batch, "engine"], median[batch, "guests"],
            statistics.median(sizes[batch]),
        )
        for batch in batches
    ]  # fmt: skip


def _model(runner: Runner, batch: int, tokens: int) -> float:
    """Steps of the runner alone, each sequence on pages of its own, always the likeliest token."""
    each = _pages(tokens)
    pages = [np.arange(number * each, (number + 1) * each, dtype=np.int32) for number in range(batch)]
    last = [
        runner.step([Chunk(np.array(prompt(number), np.int32), 0, own, 1)])[0].argmax()
        for number, own in enumerate(pages)
    ]
    begun = time.perf_counter()
    for position in range(PROMPT_TOKENS, PROMPT_TOKENS + tokens):
        chunks = [
            Chunk(np.array([token], np.int32), position, own, 1)
            for token, own in zip(last, pages, strict=True)
        ]
        last = list(runner.step(chunks).argmax(axis=1))
    return batch * tokens / (time.perf_counter() - begun)


def _pages(tokens: int) -> int:
    return -(-(PROMPT_TOKENS + tokens) // PAGE)


def _engine(engine: Engine, batch: int, tokens: int) -> float:
    """Sessions that ask for their next token as soon as they have one, without guests."""
    sessions = [engine.open("bench") for _ in range(batch)]
    begins = [
        int(session.forward(np.array(prompt(number), np.uint32))[0].argmax())
        for number, session in enumerate(sessions)
    ]
    over = threading.Semaphore(0)

    def go_on(session: Session, token: int, left: int) -> None:
        if not left:
            over.release()
            return

        def next_token(future: Future[Floats]) -> None:
            go_on(session, int(future.result()[0].argmax()), left - 1)

        session.start_forward(np.array([token], np.uint32)).add_done_callback(next_token)

    begun = time.perf_counter()
    for session, token in zip(sessions, begins, strict=True):
        go_on(session, token, tokens)
    for _ in sessions:
        over.acquire()
    seconds = time.perf_counter() - begun
    for session in sessions:
        session.free()
    return batch * tokens / seconds


async def _guests(orchestrator: Orchestrator, batch: int, tokens: int) -> float:
    return await rate(orchestrator, requests(orchestrator, ["bench"] * batch, tokens))


def requests(orchestrator: Orchestrator, tenants: Sequence[str], tokens: int) -> list[GenerationRequest]:
    """One request of each tenant, with a prompt of its own: whole pages and one token."""
    decode = orchestrator.model.tokenizer.decode
    wanted = []
    for number, tenant in enumerate(tenants):
        ids = prompt(number, PROMPT_TOKENS + 1)
        text = decode(ids).decode("utf-8", "replace")
        given = Prompt(text, len(ids), add_bos=False, ids=tuple(ids))
        wanted.append(GenerationRequest(given, tokens, temperature=0.0, tenant=tenant))
    return wanted


async def rate(orchestrator: Orchestrator, wanted: Sequence[GenerationRequest]) -> float:
    """Tokens a second of generations that run at once, from their start to the last one's end; of their
    prompts all but one token are in the prefix cache.
    """
    await run(orchestrator, [replace(request, max_tokens=1) for request in wanted])
    begun = time.perf_counter()
    counts = await run(orchestrator, wanted)
    return sum(counts) / (time.perf_counter() - begun)


async def run(orchestrator: Orchestrator, wanted: Sequence[GenerationRequest]) -> list[int]:
    """Have these generations run at once; how many tokens each gave."""

    async def one(generation: Generation) -> int:
        async for event in generation:
            if isinstance(event, Failed):
                raise RuntimeError(f"a generation failed: {event.message}")
            if isinstance(event, Finished):
                return event.completion_tokens
        raise AssertionError("a generation has an end")

    generations = [orchestrator.submit(request) for request in wanted]
    return list(await asyncio.gather(*map(one, generations)))
