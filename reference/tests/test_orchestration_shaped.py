"""The shaped host functions called as the guard calls them: what a guest gets, and what it may not do."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import Runtime
from realm_abi.steps import settled
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model
from realm_reference.orchestration import (
    Finished,
    Generation,
    GenerationRequest,
    GuestLimits,
    Orchestrator,
    PromptScored,
    Token,
)
from realm_reference.orchestration.grammar import GrammarCompiler, json_grammar
from realm_reference.orchestration.request import prepare_prompt, prompt_of_ids
from realm_reference.orchestration.shaped import ShapedFunctionsV1, ShapedFunctionsV2

MODEL = 1
NAN = math.nan


class Host:
    """Shaped host functions of a request, and the generation that they report to."""

    def __init__(self, model: Model, engine: Engine, kind: type[Any], changes: dict[str, Any]) -> None:
        prompt = prepare_prompt(model.tokenizer, "hello", abi_version=2)
        self.generation = Generation(60)
        self.calls = kind(
            model, engine, GenerationRequest(prompt, 8, **changes), self.generation, GuestLimits(sessions=4)
        )
        self.vocab = model.transformer.vocab_size
        self.encode = model.tokenizer.encode

    def forward(self, session: int, *tokens: int, rows: int = 1) -> np.ndarray:
        out = np.zeros(rows * self.vocab, np.float32)
        settled(self.calls.realm_forward(session, np.array(tokens, np.uint32), out, rows))
        return out.reshape(rows, self.vocab)

    def emit(self, session: int, token: int, *, stop: bool = False) -> int:
        answer: int = self.calls.realm_emit(session, token, "x", NAN, int(stop))
        return answer


MakeHost = Callable[..., Host]


@pytest.fixture
async def make(tiny_model: Model) -> AsyncIterator[MakeHost]:
    engine, made = Engine(ArrayRunner(tiny_model.transformer)), list[Host]()

    def make(kind: type[Any] = ShapedFunctionsV2, **changes: Any) -> Host:
        made.append(Host(tiny_model, engine, kind, changes))
        return made[-1]

    yield make
    for host in made:
        host.calls.close()
    assert engine.open_sessions == 0
    engine.close()


def colours(model: Model) -> Any:
    return GrammarCompiler(model.tokenizer).compile(json_grammar({"enum": ["red", "blue"]}))


async def test_a_guest_that_speculates_and_goes_back_gets_the_same_logits(make: MakeHost) -> None:
    straight = make(frequency_penalty=1.5, logit_bias={7: 3.0})
    winding = make(frequency_penalty=1.5, logit_bias={7: 3.0})
    first, second = straight.calls.realm_session_open(MODEL), winding.calls.realm_session_open(MODEL)
    for host, session in ((straight, first), (winding, second)):
        host.forward(session, *host.encode("hello"))
        host.emit(session, 7)
    expected = [straight.forward(first, 7)[0]]
    straight.emit(first, 9)
    expected.append(straight.forward(first, 9)[0])

    length = len(winding.encode("hello"))
    fork = winding.calls.realm_session_fork(second)
    winding.forward(fork, 7, 20, 20, rows=3)
    winding.calls.realm_session_truncate(fork, length)
    rows = winding.forward(fork, 7, 9, rows=2)
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-4)
    winding.calls.realm_session_free(fork)
    with pytest.raises(AbiError):
        winding.emit(fork, 7)


async def test_only_what_the_grammar_allows_is_handed_on(make: MakeHost, tiny_model: Model) -> None:
    host = make(grammar=colours(tiny_model))
    session = host.calls.realm_session_open(MODEL)
    [row] = host.forward(session, *host.encode("hello"))
    [quote] = host.encode('"')
    assert np.isfinite(row[quote])
    assert np.isfinite(row).sum() < 5
    with pytest.raises(AbiError) as caught:
        host.emit(session, host.encode("x")[0])
    assert caught.value.code == ErrorCode.invalid_argument
    assert host.generation.cancelled
    assert host.generation.cause is not None
    assert "forbids" in host.generation.cause.message


async def test_a_text_may_not_end_before_its_form_is_whole(make: MakeHost, tiny_model: Model) -> None:
    end = tiny_model.tokenizer.eos_ids[0]
    host = make(grammar=colours(tiny_model))
    session = host.calls.realm_session_open(MODEL)
    host.forward(session, *host.encode("hello"))
    for token in host.encode('"red'):
        assert host.emit(session, token) == 0
    with pytest.raises(AbiError):
        host.emit(session, end, stop=True)
    whole = make(grammar=colours(tiny_model))
    session = whole.calls.realm_session_open(MODEL)
    for token in whole.encode('"red"'):
        whole.emit(session, token)
    assert whole.emit(session, end, stop=True) == 0


async def test_scores_are_of_the_hosts_own_rows(make: MakeHost) -> None:
    host = make(logprobs=2)
    session = host.calls.realm_session_open(MODEL)
    row = host.forward(session, *host.encode("hello"))
    row[:] = 0  # what the guest does to its copy is nobody's business
    host.emit(session, 7)
    event = await host.generation.next_event()
    assert isinstance(event, Token)
    assert event.scores is not None
    assert event.scores.logprob != pytest.approx(-math.log(host.vocab))
    with pytest.raises(AbiError):
        host.emit(session, 8)  # without having asked for what comes after 7
    assert host.generation.cancelled


async def test_v1_takes_what_is_embedded_behind_its_first_text_for_the_answer(
    make: MakeHost, tiny_model: Model
) -> None:
    host, width = make(ShapedFunctionsV1, presence_penalty=2.0), tiny_model.config.hidden_size
    hidden, plain, shaped = (np.zeros(n, np.float32) for n in (width, host.vocab, host.vocab))
    hidden[0] = 1.0
    settled(host.calls.realm_embed_tokens(MODEL, np.array([5], np.uint32), np.zeros(width, np.float32)))
    settled(host.calls.realm_compute_logits(MODEL, hidden, plain))
    host.calls.realm_stream_token("x")
    settled(host.calls.realm_embed_tokens(MODEL, np.array([9], np.uint32), np.zeros(width, np.float32)))
    settled(host.calls.realm_compute_logits(MODEL, hidden, shaped))
    assert np.flatnonzero(plain - shaped).tolist() == [9]
    assert (plain - shaped)[9] == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize("guest", ["v1", "v2"])
async def test_a_prompt_of_ids_is_scored_as_it_is(tiny_model: Model, runtime: Runtime, guest: str) -> None:
    engine = Engine(ArrayRunner(tiny_model.transformer))
    orchestrator = Orchestrator(tiny_model, engine, runtime, runtime.compile(guest_bytes(guest)))
    ids = tuple(tiny_model.tokenizer.encode(letter)[0] for letter in "hello")
    request = GenerationRequest(prompt_of_ids(tiny_model.tokenizer, ids), 0, score_prompt=True, logprobs=1)
    if guest == "v1":
        with pytest.raises(Exception, match="logprobs"):
            orchestrator.submit(request)
    else:
        scored, end = [event async for event in orchestrator.submit(request)]
        assert isinstance(scored, PromptScored)
        assert scored.tokens == ids
        assert [score is None for score in scored.scores] == [True, False, False, False, False]
        assert isinstance(end, Finished)
        assert end.completion_tokens == 0
    await orchestrator.close(0)
    assert engine.open_sessions == 0
    engine.close()
