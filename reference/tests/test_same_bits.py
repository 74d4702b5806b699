"""Same request, same bits: tokens and log probabilities of requests alone and in a crowd, to the last bit.

In the crowd there are fewer pages than the requests need together, so that some are preempted; their prompts
begin alike; and the second time all prompts are found in the prefix cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import Runtime, fibers_work
from realm_reference.engine import Engine
from realm_reference.model.compute import Compute
from realm_reference.model.model import Model, load_model
from realm_reference.orchestration import Finished, GenerationRequest, Orchestrator, Token

REQUESTS = 10
TOKENS = 40
Said = list[tuple[int | None, float | None, object]]


@asynccontextmanager
async def running(model: Model, threads: int, **settings: int) -> AsyncIterator[tuple[Engine, Orchestrator]]:
    """An engine on so many threads, and guests on it."""
    runtime = Runtime(fibers=fibers_work())
    engine = Engine(replace(model, compute=replace(model.compute, threads=threads)).runner(), **settings)
    module = runtime.compile(guest_bytes("v2"))
    orchestrator = Orchestrator(model, engine, runtime, module, max_running=REQUESTS)
    try:
        yield engine, orchestrator
    finally:
        await orchestrator.close(0)
        engine.close()


def requests(orchestrator: Orchestrator) -> list[GenerationRequest]:
    """Greedy and sampled ones of two tenants; every second prompt is long and begins like the others."""
    texts = [
        f"{'the same beginning ' * 12 if number % 2 else ''}and {number} more" for number in range(REQUESTS)
    ]
    return [
        GenerationRequest(
            orchestrator.prepare(text),
            TOKENS,
            temperature=0.0 if number % 3 == 0 else 1.0,
            top_p=0.9 if number % 3 == 1 else 1.0,
            seed=number,
            want_logprobs=True,
            logprobs=2 if number % 4 == 0 else None,
            tenant=f"tenant {number % 3 % 2}",
        )
        for number, text in enumerate(texts)
    ]


async def said(orchestrator: Orchestrator, wanted: Sequence[GenerationRequest]) -> list[Said]:
    """What each request gets when all run at once."""

    async def one(request: GenerationRequest) -> Said:
        events = [event async for event in orchestrator.submit(request)]
        assert isinstance(events[-1], Finished), events[-1]
        return [(event.token_id, event.logprob, event.scores) for event in events if isinstance(event, Token)]

    return list(await asyncio.gather(*map(one, wanted)))


@pytest.mark.parametrize("precision", ["exact", "int8"])
async def test_a_crowd_changes_no_bit_of_a_request(
    tiny_gguf: Path, precision: Literal["exact", "int8"]
) -> None:
    model = load_model(tiny_gguf, Compute("jit", precision, 1))
    async with running(model, 1) as (_, orchestrator):
        wanted = requests(orchestrator)
        alone = [(await said(orchestrator, [replace(one, tenant=str(one.seed))]))[0] for one in wanted]
    for threads, chunk in ((1, 64), (2, 7)):
        async with running(model, threads, pages=40, prefill_chunk=chunk) as (engine, orchestrator):
            first = await said(orchestrator, wanted)
            hits, preemptions = engine.counters.prefix_hit_tokens, engine.counters.preemptions
            second = await said(orchestrator, wanted[::-1])
            assert preemptions > 0
            assert engine.counters.prefix_hit_tokens > hits
        assert first == alone
        assert second[::-1] == alone
