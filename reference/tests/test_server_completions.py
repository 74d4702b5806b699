"""POST /v1/completions over a real socket: prompts as text and as ids, echo, log probabilities, streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model
from realm_reference.orchestration.logprobs import log_softmax
from realm_reference.server.errors import ApiError
from realm_reference.server.requests.completion_request import parse_completion_request

ROUTE = "/v1/completions"
StartServer = Callable[..., Awaitable[Any]]


class Texts:
    """A server and its route."""

    def __init__(self, server: Any, client: aiohttp.ClientSession) -> None:
        self.server = server
        self.tokenizer = server.service.model.tokenizer
        self._client = client

    async def raw(self, **changes: Any) -> tuple[int, str]:
        body = {"model": self.server.model, "prompt": "hello", "temperature": 0, "max_tokens": 8, **changes}
        async with self._client.post(ROUTE, json=body) as response:
            return response.status, await response.text()

    async def ask(self, **changes: Any) -> dict[str, Any]:
        status, text = await self.raw(**changes)
        assert status == 200, text
        answer: dict[str, Any] = json.loads(text)
        return answer

    async def refused(self, **changes: Any) -> dict[str, Any]:
        status, text = await self.raw(**changes)
        assert status == 400, text
        error: dict[str, Any] = json.loads(text)["error"]
        return error

    async def chunks(self, **changes: Any) -> list[dict[str, Any]]:
        status, text = await self.raw(stream=True, **changes)
        assert status == 200, text
        assert text.endswith("data: [DONE]\n\n")
        return [json.loads(e.removeprefix("data: ")) for e in text.split("\n\n") if e.startswith("data: {")]


@pytest.fixture
async def texts(start_server: StartServer) -> AsyncIterator[Texts]:
    server = await start_server()
    async with aiohttp.ClientSession(server.url) as client:
        yield Texts(server, client)


async def test_a_whole_answer(texts: Texts) -> None:
    answer = await texts.ask()
    assert (answer["object"], answer["model"]) == ("text_completion", texts.server.model)
    assert answer["id"].startswith("cmpl-")
    [choice] = answer["choices"]
    assert set(choice) == {"index", "text", "logprobs", "finish_reason"}
    assert (choice["index"], choice["logprobs"], choice["finish_reason"]) == (0, None, "length")
    prompt = len(texts.tokenizer.encode("hello"))
    assert answer["usage"] == {"prompt_tokens": prompt, "completion_tokens": 8, "total_tokens": prompt + 8}


async def test_the_prompt_is_continued_as_it_is(texts: Texts) -> None:
    model = texts.server.service.model
    assert model.chat is not None
    rendered = model.chat.render([{"role": "user", "content": "hello world"}])
    chat = await texts.server.ask(max_tokens=8)
    [choice] = (await texts.ask(prompt=rendered))["choices"]
    assert choice["text"] == chat["choices"][0]["message"]["content"]


@pytest.mark.parametrize("guest", ["v1", "v2"])
async def test_token_ids_are_taken_as_they_are(start_server: StartServer, guest: str) -> None:
    server = await start_server(guest)
    async with aiohttp.ClientSession(server.url) as client:
        texts = Texts(server, client)
        bos = [server.service.model.tokenizer.bos_id] if guest == "v1" else []
        ids = [*bos, *texts.tokenizer.encode("hello")]
        [text] = (await texts.ask(prompt="hello"))["choices"]
        [from_ids] = (await texts.ask(prompt=ids))["choices"]
        assert from_ids == text
        letters = [*bos, *(texts.tokenizer.encode(letter)[0] for letter in "hello")]
        spelled = await texts.ask(prompt=letters)
        assert spelled["usage"]["prompt_tokens"] == len(letters) > len(ids)
        assert spelled["choices"][0]["text"] != text["text"]


async def test_prompts_times_n_choices_in_order(texts: Texts) -> None:
    ids = texts.tokenizer.encode("world")
    many = await texts.ask(prompt=["hello", "world"], n=2, temperature=1.2, seed=3)
    assert [choice["index"] for choice in many["choices"]] == [0, 1, 2, 3]
    for number, prompt in enumerate(["hello", "world"]):
        alone = await texts.ask(prompt=prompt, n=2, temperature=1.2, seed=3)
        expected = [choice["text"] for choice in alone["choices"]]
        assert [choice["text"] for choice in many["choices"][2 * number : 2 * number + 2]] == expected
    arrays = await texts.ask(prompt=[texts.tokenizer.encode("hello"), ids])
    assert arrays["usage"]["prompt_tokens"] == len(texts.tokenizer.encode("hello")) + len(ids)


async def test_echo_puts_the_prompt_first(texts: Texts) -> None:
    plain, echoed = await texts.ask(), await texts.ask(echo=True)
    assert echoed["choices"][0]["text"] == "hello" + plain["choices"][0]["text"]
    assert echoed["usage"] == plain["usage"]
    nothing = await texts.ask(echo=True, max_tokens=0)
    assert nothing["choices"][0]["text"] == "hello"
    assert nothing["usage"]["completion_tokens"] == 0


@pytest.mark.parametrize("changes", [{}, {"echo": True}, {"n": 2, "prompt": ["hello", "a naïve 🙂"]}])
async def test_a_stream_adds_up_to_the_whole(texts: Texts, changes: dict[str, Any]) -> None:
    asked = {"temperature": 1.4, "seed": 5, "logprobs": 1, "max_tokens": 20, **changes}
    whole = await texts.ask(**asked)
    chunks = await texts.chunks(stream_options={"include_usage": True}, **asked)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    for choice in whole["choices"]:
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert "".join(one["text"] for one in mine) == choice["text"]
        assert [one["finish_reason"] for one in mine][-1] == choice["finish_reason"]
        assert [one["finish_reason"] for one in mine[:-1]] == [None] * (len(mine) - 1)
        for key, expected in choice["logprobs"].items():
            assert [v for one in mine if one["logprobs"] for v in one["logprobs"][key]] == expected


async def test_logprobs_of_the_prompt_and_of_the_completion(texts: Texts, tiny_model: Model) -> None:
    prompt = "hello world 🙂"
    [choice] = (await texts.ask(prompt=prompt, echo=True, logprobs=3, max_tokens=6))["choices"]
    scores = choice["logprobs"]
    ids = texts.tokenizer.encode(prompt)
    assert {len(values) for values in scores.values()} == {len(ids) + 6}
    assert scores["token_logprobs"][0] is scores["top_logprobs"][0] is None
    engine = Engine(ArrayRunner(tiny_model.transformer))
    rows = engine.open().forward(np.array(ids, np.uint32), len(ids))
    engine.close()
    expected = [float(log_softmax(row)[token]) for row, token in zip(rows, ids[1:], strict=False)]
    assert scores["token_logprobs"][1 : len(ids)] == pytest.approx(expected, abs=1e-3)
    for number in range(1, len(ids) + 6):
        top = scores["top_logprobs"][number]
        assert 3 <= len(top) <= 4
        assert top[scores["tokens"][number]] == scores["token_logprobs"][number]
    for token, offset in zip(scores["tokens"], scores["text_offset"], strict=True):
        assert token.startswith("bytes:") or choice["text"][offset:].startswith(token)


async def test_zero_logprobs_are_on(texts: Texts) -> None:
    scores = (await texts.ask(logprobs=0, max_tokens=2))["choices"][0]["logprobs"]
    assert [len(top) for top in scores["top_logprobs"]] == [1, 1]
    assert scores["text_offset"][0] == 0


async def test_scoring_a_text_needs_no_token(texts: Texts) -> None:
    answer = await texts.ask(prompt="hello", echo=True, logprobs=1, max_tokens=0)
    [choice] = answer["choices"]
    assert len(choice["logprobs"]["tokens"]) == answer["usage"]["prompt_tokens"]
    assert choice["finish_reason"] == "length"
    assert texts.server.service.engine.open_sessions == 0


async def test_stop_and_bias(texts: Texts) -> None:
    [wanted] = texts.tokenizer.encode("Q")
    assert (await texts.ask(logit_bias={str(wanted): 100}))["choices"][0]["text"] == "Q" * 8
    [choice] = (await texts.ask(logit_bias={str(wanted): 100}, stop="QQQ"))["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("", "stop")


async def test_embeddings_are_refused_and_not_made_up(texts: Texts) -> None:
    route = f"{texts.server.url}/v1/embeddings"
    async with aiohttp.ClientSession() as client:
        for body, status, param in (
            ({"model": texts.server.model, "input": "x"}, 400, "model"),
            ({"model": "other", "input": "x"}, 404, "model"),
            ({"input": "x"}, 400, "model"),
        ):
            async with client.post(route, json=body) as response:
                assert response.status == status
                assert (await response.json())["error"]["param"] == param


async def test_the_default_is_sixteen_tokens(texts: Texts) -> None:
    assert (await texts.ask(max_tokens=None))["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": ["a", []]}, "prompt[1]"),
        ({"prompt": [1, "a"]}, "prompt[1]"),
        ({"prompt": [1, -1]}, "prompt[1]"),
        ({"prompt": [1, 10**6]}, "prompt"),
        ({"prompt": ["a", [10**6]]}, "prompt[1]"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": ["a"] * 33, "n": 2}, "n"),
        ({"prompt": "x" * 5000}, "prompt"),
        ({"max_tokens": 5000}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"echo": "yes"}, "echo"),
        ({"messages": []}, "messages"),
        ({"max_completion_tokens": 5}, "max_completion_tokens"),
    ],
)
async def test_refused_with_the_parameters_name(texts: Texts, changes: dict[str, Any], param: str) -> None:
    assert (await texts.refused(**changes))["param"] == param
    assert texts.server.service.engine.open_sessions == 0


async def test_neutral_values_of_what_is_not_supported(texts: Texts) -> None:
    plain = (await texts.ask(n=2))["choices"]
    assert (await texts.ask(n=2, best_of=2, suffix="", user="me"))["choices"] == plain


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)


def check_refusal(error: ApiError) -> None:
    assert error.status == 400
    assert error.param


@given(prompt=JSON, best_of=JSON, logprobs=JSON)
def test_random_json_is_accepted_or_refused_with_a_400(prompt: Any, best_of: Any, logprobs: Any) -> None:
    body = {"model": "m", "prompt": prompt, "best_of": best_of, "logprobs": logprobs}
    try:
        assert parse_completion_request(body).prompt
    except ApiError as error:
        check_refusal(error)
