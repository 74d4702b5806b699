"""The whole way on SmolLM2: it answers, it stops by itself, and both guests say the same."""

from __future__ import annotations

import asyncio

import pytest
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import Runtime
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model
from realm_reference.orchestration import Finished, FinishReason, GenerationRequest, Orchestrator, Token


@pytest.mark.parametrize("guest", ["v1", "v2"])
async def test_it_knows_the_capital_of_france(smollm2: Model, guest: str) -> None:
    engine, runtime = Engine(ArrayRunner(smollm2.transformer)), Runtime()
    orchestrator = Orchestrator(smollm2, engine, runtime, runtime.compile(guest_bytes(guest)))
    assert smollm2.chat is not None
    prompt = orchestrator.prepare(
        smollm2.chat.render([{"role": "user", "content": "What is the capital of France?"}])
    )
    try:
        async with asyncio.timeout(120):
            events = [e async for e in orchestrator.submit(GenerationRequest(prompt, 60, temperature=0.0))]
    finally:
        await orchestrator.close(0)
        engine.close()
    assert "".join(e.text for e in events if isinstance(e, Token)) == "The capital of France is Paris."
    end = events[-1]
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.STOP
    assert (end.prompt_tokens, end.completion_tokens) == (37, 7)
