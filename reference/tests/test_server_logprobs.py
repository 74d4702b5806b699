"""logprobs, logit_bias and penalties over the wire: what is reported is what the model thinks, whatever is
done to its logits afterwards.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import numpy as np
import pytest
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model
from realm_reference.orchestration import FinishReason, GenerationRequest, Orchestrator, Token
from realm_reference.orchestration.logprobs import TokenLogprobs, log_softmax
from realm_reference.server.answers.logprobs import ScoreKeeper

CHAT = "/v1/chat/completions"
StartServer = Callable[..., Awaitable[Any]]


async def refused(client: aiohttp.ClientSession, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(CHAT, json=body)
    assert response.status == 400, await response.text()
    error: dict[str, Any] = (await response.json())["error"]
    return error


def entries(answer: dict[str, Any], choice: int = 0) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = answer["choices"][choice]["logprobs"]["content"]
    return content


def chunks_of(text: str) -> Iterator[dict[str, Any]]:
    for event in text.split("\n\n"):
        if event.startswith("data: {"):
            yield json.loads(event.removeprefix("data: "))


def ids_of(model: Model, answer: dict[str, Any]) -> list[int]:
    """The answer's tokens: the tiny model's vocabulary has no two of the same bytes."""
    by_bytes = {model.tokenizer.token_bytes(i): i for i in range(model.tokenizer.vocab_size)}
    raw = [entry["bytes"] for entry in entries(answer)]
    return [by_bytes[bytes(one) if one is not None else entry["token"].encode()]
            for one, entry in zip(raw, entries(answer), strict=True)]  # fmt: skip


async def test_logprobs_are_the_models_own(server: Any, tiny_model: Model) -> None:
    answer = await server.ask(logprobs=True, top_logprobs=5, temperature=1.3, seed=3, max_tokens=12)
    assert len(entries(answer)) == answer["usage"]["completion_tokens"]
    assert tiny_model.chat is not None
    prompt = tiny_model.chat.render([{"role": "user", "content": "hello world"}])
    tokens = [*tiny_model.tokenizer.encode(prompt), *ids_of(tiny_model, answer)]
    engine = Engine(ArrayRunner(tiny_model.transformer))
    rows = engine.open().forward(np.array(tokens, np.uint32), len(tokens))
    engine.close()
    made = len(entries(answer))
    for row, token, entry in zip(rows[-made - 1 : -1], tokens[-made:], entries(answer), strict=True):
        expected = log_softmax(row)
        assert entry["logprob"] == pytest.approx(float(expected[token]), abs=1e-3)
        best = [one["logprob"] for one in entry["top_logprobs"]]
        assert best == pytest.approx(sorted(expected.tolist(), reverse=True)[:5], abs=1e-3)


async def test_streamed_logprobs_are_those_of_the_whole_answer(server: Any) -> None:
    asked = {"logprobs": True, "top_logprobs": 2, "temperature": 1.5, "seed": 7, "n": 2, "max_tokens": 25}
    whole = await server.ask(**asked)
    _, text = await server.stream(**asked)
    for index in (0, 1):
        deltas = [c for chunk in chunks_of(text) for c in chunk["choices"] if c["index"] == index]
        content = [entry for delta in deltas if delta["logprobs"] for entry in delta["logprobs"]["content"]]
        assert content == entries(whole, index)
        for delta in deltas:
            # An entry never comes before the first of its text; without text it comes with the end.
            assert not delta["logprobs"] or delta["delta"].get("content") or delta["finish_reason"]


async def test_without_the_flag_there_are_none(server: Any) -> None:
    assert (await server.ask())["choices"][0]["logprobs"] is None
    assert (await server.ask(logprobs=False))["choices"][0]["logprobs"] is None
    assert all(entry["top_logprobs"] == [] for entry in entries(await server.ask(logprobs=True)))


async def test_the_flag_does_not_change_the_answer(server: Any) -> None:
    asked = {"temperature": 1.2, "seed": 11, "max_tokens": 20}
    plain, scored = await server.ask(**asked), await server.ask(**asked, logprobs=True)
    assert plain["choices"][0]["message"] == scored["choices"][0]["message"]


async def test_the_bytes_are_those_of_the_text(server: Any) -> None:
    answer = await server.ask(logprobs=True, max_tokens=30, temperature=1.5, seed=2)
    raw = b"".join(bytes(entry["bytes"] or b"") for entry in entries(answer))
    assert raw.decode("utf-8", "replace") == answer["choices"][0]["message"]["content"]


async def test_a_bias_forces_and_forbids_and_does_not_show_in_the_logprobs(server: Any) -> None:
    tokenizer = server.service.model.tokenizer
    [wanted] = tokenizer.encode("Q")
    plain = await server.ask(logprobs=True, max_tokens=1)
    forced = await server.ask(logprobs=True, max_tokens=4, logit_bias={str(wanted): 100})
    assert forced["choices"][0]["message"]["content"] == "QQQQ"
    assert all(entry["logprob"] < 0 for entry in entries(forced))
    [favourite] = ids_of(server.service.model, plain)
    other = await server.ask(logprobs=True, top_logprobs=1, max_tokens=1, logit_bias={str(favourite): -100})
    assert ids_of(server.service.model, other) != [favourite]
    assert entries(other)[0]["top_logprobs"][0]["logprob"] == entries(plain)[0]["logprob"]


async def test_penalties_keep_a_token_from_coming_back(server: Any) -> None:
    [wanted] = server.service.model.tokenizer.encode("Q")
    bias = {str(wanted): 50}
    assert (await server.ask(logit_bias=bias))["choices"][0]["message"]["content"] == "Q" * 8
    plain = await server.ask(presence_penalty=-2, frequency_penalty=-2, max_tokens=30)
    content = plain["choices"][0]["message"]["content"]
    assert content == content[0] * 30, "a negative penalty makes the model repeat itself"
    varied = await server.ask(presence_penalty=2, frequency_penalty=2, max_tokens=30)
    assert len(set(varied["choices"][0]["message"]["content"])) >= 5


async def test_a_token_that_the_model_does_not_have(server: Any, client: aiohttp.ClientSession) -> None:
    size = server.service.model.tokenizer.vocab_size
    error = await refused(client, server.body(logit_bias={str(size): 1}))
    assert error["param"] == "logit_bias"
    assert str(size - 1) in error["message"]
    await server.ask(logit_bias={str(size - 1): 1})


@pytest.mark.parametrize("changes", [{"presence_penalty": 1.5}, {"logit_bias": {"40": 9, "41": -5}}])
async def test_a_v1_guest_is_shaped_as_a_v2_guest(start_server: StartServer, changes: dict[str, Any]) -> None:
    first, second = await start_server("v1"), await start_server("v2")
    asked = {"max_tokens": 24, "frequency_penalty": 0.7, **changes}
    one, two = await first.ask(**asked), await second.ask(**asked)
    assert one["choices"] == two["choices"]
    assert one["choices"] != (await second.ask(max_tokens=24))["choices"]


async def test_a_v1_guest_has_no_logprobs(start_server: StartServer) -> None:
    server = await start_server("v1")
    async with aiohttp.ClientSession(server.url) as client:
        assert (await refused(client, server.body(logprobs=True)))["param"] == "logprobs"


async def test_the_guests_own_logprob_agrees_with_the_hosts(server: Any) -> None:
    orchestrator: Orchestrator = server.service.orchestrator
    request = GenerationRequest(
        orchestrator.prepare("hello"), 16, temperature=1.0, seed=4, want_logprobs=True, logprobs=0
    )
    tokens = [event async for event in orchestrator.submit(request) if isinstance(event, Token)]
    assert tokens
    for token in tokens:
        assert token.logprob is not None
        assert token.scores is not None
        assert token.logprob == pytest.approx(token.scores.logprob, abs=1e-4)


def scored(text: str, token_id: int, *, counted: bool = True) -> Token:
    return Token(text, token_id, None, counted, TokenLogprobs(math.log(0.5), ()))


def test_what_a_stop_string_cut_off_is_not_told(tiny_model: Model) -> None:
    keeper = ScoreKeeper(tiny_model.tokenizer)
    a, b, c = (tiny_model.tokenizer.encode(letter)[0] for letter in "abc")
    assert [one.token for one in keeper.push(scored("a", a))] == [a]
    assert keeper.push(scored("", b)) == []  # may become the stop string
    assert [(one.token, one.offset) for one in keeper.push(scored("b", c))] == [(b, 1)]
    assert keeper.end(FinishReason.STOP) == []


def test_what_has_no_text_comes_with_the_end(tiny_model: Model) -> None:
    keeper = ScoreKeeper(tiny_model.tokenizer)
    (special,) = tiny_model.tokenizer.encode("<|im_start|>")
    assert keeper.push(scored("", special)) == []
    assert keeper.push(scored("", tiny_model.tokenizer.eos_ids[0], counted=False)) == []
    assert [one.token for one in keeper.end(FinishReason.STOP)] == [special]
