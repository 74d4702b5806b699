"""Guests that guess ahead say bit for bit what they say without, on a runner whose bits allow it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import Runtime
from realm_abi.steps import finish
from realm_reference import assembly
from realm_reference.bench import campaign, drafts
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.drafts import DraftError, first_layers, load_draft
from realm_reference.model.model import Model
from realm_reference.model.runner import Chunk, Floats
from realm_reference.orchestration import Event, Finished, GenerationRequest, Orchestrator, Token
from realm_reference.orchestration.drafting import Drafter, Guesses
from realm_reference.orchestration.grammar import GrammarCompiler, json_grammar

PROMPTS = ("<|im_start|>hello", "the quick brown fox, the quick brown fox, the quick", "a b c a b c a b")
SAMPLED: dict[str, Any] = {"temperature": 1.3, "top_p": 0.98, "seed": 11}


class OneByOne(ArrayRunner):
    """Plain arrays, a position at a time: the bits of a row depend on its sequence alone."""

    batch_invariant = True

    def step(self, chunks: Sequence[Chunk]) -> Floats:
        rows = [super(OneByOne, self).step([part]) for chunk in chunks for part in split(chunk)]
        return np.concatenate(rows)


def split(chunk: Chunk) -> Iterator[Chunk]:
    count = len(chunk.ids)
    for n in range(count):
        ids, at = chunk.ids[n : n + 1], chunk.position + n
        yield replace(chunk, ids=ids, position=at, rows=int(n >= count - chunk.rows))


@pytest.fixture(scope="module", params=["text", "model"])
def engine(request: pytest.FixtureRequest, tiny_model: Model) -> Iterator[Engine]:
    """An engine, and on it maybe a draft model: the first of two layers."""
    engine = Engine(OneByOne(tiny_model.transformer), batch=4)
    if request.param == "model":
        engine.draft = Engine(OneByOne(first_layers(tiny_model, "1").transformer), batch=4)
    yield engine
    if engine.draft is not None:
        assert engine.draft.open_sessions == 0
        engine.draft.close()
    assert engine.open_sessions == 0
    engine.close()


@pytest.fixture(scope="module")
def orchestrator(tiny_model: Model, engine: Engine) -> Orchestrator:
    runtime = Runtime()
    return Orchestrator(tiny_model, engine, runtime, runtime.compile(guest_bytes("v2")))


async def events_of(orchestrator: Orchestrator, request: GenerationRequest) -> list[Event]:
    async with asyncio.timeout(60):
        return [event async for event in orchestrator.submit(request)]


async def compare(orchestrator: Orchestrator, text: str, guesses: int, **changes: Any) -> int:
    """The number of tokens of a request, which are the same with and without guesses."""
    given: dict[str, Any] = {"max_tokens": 60, "temperature": 0.0, "want_logprobs": True} | changes
    plain = GenerationRequest(orchestrator.prepare(text), **given)
    due = await events_of(orchestrator, plain)
    came = await events_of(orchestrator, replace(plain, draft_tokens=guesses))
    assert came == due
    assert isinstance(due[-1], Finished)
    return sum(isinstance(event, Token) for event in due)


async def test_a_thousand_greedy_tokens_are_the_same(orchestrator: Orchestrator, engine: Engine) -> None:
    before = replace(engine.counters)
    tokens = 0
    for number in range(18):
        text = f"{PROMPTS[number % 3]} {number * 37}"
        tokens += await compare(orchestrator, text, 1 + number % 6, max_tokens=64)
    made = engine.counters.draft_tokens - before.draft_tokens
    kept = engine.counters.draft_accepted - before.draft_accepted
    assert tokens >= 1000
    assert 0 < kept <= made


@pytest.mark.parametrize("guesses", [1, 4, 16])
async def test_sampled_tokens_are_the_same(orchestrator: Orchestrator, engine: Engine, guesses: int) -> None:
    before = replace(engine.counters)
    for seed, text in enumerate(PROMPTS):
        await compare(orchestrator, text, guesses, **SAMPLED | {"seed": seed})
        await compare(orchestrator, text, guesses, **SAMPLED, repetition_penalty=1.3, min_p=0.01)
    made = engine.counters.draft_tokens - before.draft_tokens
    assert made > engine.counters.draft_accepted - before.draft_accepted, "some guesses are wrong"


async def test_what_the_host_does_to_logits_is_the_same(
    orchestrator: Orchestrator, tiny_model: Model
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    grammar = GrammarCompiler(tiny_model.tokenizer).compile(json_grammar(schema))
    for changes in (
        {"grammar": grammar},
        {"logprobs": 3},
        {"presence_penalty": 0.8, "frequency_penalty": 0.5, "logit_bias": {5: 3.0}},
    ):
        for way in ({}, SAMPLED):
            await compare(orchestrator, PROMPTS[1], 4, **{"want_logprobs": False, **way, **changes})


async def test_ends_are_the_same(orchestrator: Orchestrator, tiny_model: Model) -> None:
    whole = await events_of(
        orchestrator, GenerationRequest(orchestrator.prepare(PROMPTS[1]), max_tokens=40, temperature=0.0)
    )
    said = "".join(event.text for event in whole if isinstance(event, Token))
    for cap in range(1, 8):
        assert await compare(orchestrator, PROMPTS[1], 5, max_tokens=cap) <= cap
    for stop in {said[9:12], said[20:22], said[5:6]} - {""}:
        await compare(orchestrator, PROMPTS[1], 5, stop=(stop,))
    # The context's end: a prompt that leaves room for a few tokens.
    tokens = orchestrator.prepare("a b " * 100).tokens
    long = "a b " * (100 * (tiny_model.context_length - 4) // tokens)
    await compare(orchestrator, long, 5, max_tokens=500)


async def test_requests_beside_each_other_are_the_same(orchestrator: Orchestrator) -> None:
    requests = [
        GenerationRequest(orchestrator.prepare(text), max_tokens=40, draft_tokens=guesses, **SAMPLED)
        for text in PROMPTS
        for guesses in (0, 2, 5)
    ]
    alone = [await events_of(orchestrator, request) for request in requests]
    together = await asyncio.gather(*(events_of(orchestrator, request) for request in requests))
    assert together == alone


async def test_the_benches_find_no_difference(orchestrator: Orchestrator, engine: Engine) -> None:
    rows = await drafts.run(drafts.Settings(tokens=60, length=20, first=3), engine, orchestrator)
    assert [row.differing for row in rows] == [0] * 4
    assert min(row.tokens for row in rows) >= 15
    settings = campaign.Settings(seconds=0, beside=8, most=12, spread=0)
    outcome = await campaign.run(settings, engine, orchestrator)
    assert outcome.requests >= 2
    assert outcome.guessing
    assert (outcome.differing, outcome.pages_held) == (0, 0)
    assert campaign.table(outcome)[0].endswith("bit for bit")
    assert "1 DIFFER" in campaign.table(replace(outcome, differing=1))[0]


def test_a_drafter_follows_its_session_and_says_what_the_model_would(tiny_model: Model) -> None:
    engine = Engine(OneByOne(tiny_model.transformer), batch=1)
    following, session = engine.open(), engine.open()
    drafter = Drafter(following, tiny_model.context_length)
    for tokens in ([5, 6, 7], [5, 6, 7, 8, 9], [5, 6], [5, 6, 9, 9], [4]):
        due = []
        for _ in range(3):
            session.truncate(0)
            row = session.forward(np.array([*tokens, *due], np.uint32))[0]
            due.append(int(row.argmax()))
        assert finish(drafter.propose(tokens, 3)) == due
    full = [5] * tiny_model.context_length
    assert len(finish(drafter.propose(full, 3))) == 1, "behind the last position there is one more token"
    assert finish(drafter.propose([*full, 5], 3)) == []
    following.cancel()
    with pytest.raises(AbiError) as caught:
        finish(drafter.propose([1, 2], 3))
    assert caught.value.code is ErrorCode.cancelled
    drafter.free()
    session.free()
    engine.close()


def test_guesses_are_counted_from_outside() -> None:
    guesses = Guesses()
    guesses.fed(1, 10, 10, emitted=0)  # the prompt
    guesses.fed(1, 14, 4, emitted=1)  # a token, and three guesses
    assert guesses.made == 3
    guesses.truncated(1, 14, 12, emitted=3)  # the first came true
    guesses.fed(1, 15, 3, emitted=3)  # two more, which come true
    guesses.left(1, 15, emitted=6)
    assert (guesses.made, guesses.kept) == (5, 3)
    guesses.fed(2, 4, 4, emitted=0)
    guesses.fed(2, 8, 4, emitted=1)
    guesses.left(2, 8, emitted=2)  # an end among them
    assert (guesses.made, guesses.kept) == (8, 4)


def test_draft_models_that_cannot_be(tiny_model: Model) -> None:
    assert first_layers(tiny_model, "1").config.n_layers == 1
    for count in ("0", "2", "-1", "one", ""):
        with pytest.raises(DraftError, match="which has 2 layers"):
            load_draft(f"layers:{count}", tiny_model)
    assert load_draft(str(tiny_model.path), tiny_model).config == tiny_model.config
    texts = tiny_model.tokenizer.vocabulary.texts
    for other, said in ((texts[:-1], "and tiny has 265;"), ((*texts[:7], "?!", *texts[8:]), "token 7 of")):
        strange = SimpleNamespace(vocabulary=SimpleNamespace(texts=other))
        with pytest.raises(DraftError, match=said):
            load_draft(str(tiny_model.path), replace(tiny_model, tokenizer=strange))


def test_what_cannot_be_served_is_refused(tiny_model: Model) -> None:
    given: dict[str, Any] = {"draft": assembly.Draft("layers:1")}
    for guest, said in (("v1", "ABI v1, which cannot guess"), ("v2", "it needs the compiled path")):
        with (
            pytest.raises(assembly.AssemblyError, match=said),
            assembly.orchestrator(str(tiny_model.path), guest, **given),
        ):
            pass
