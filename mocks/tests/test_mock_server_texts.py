"""The MockServer's younger parts: log probabilities, biases, forms, calls, completions, token ids."""

import json
from typing import Any

import aiohttp
import pytest
from realm_mocks.server import MockServer
from realm_mocks.server.forms import complaint, example
from realm_mocks.server.lexicon import id_of, piece_of

MESSAGES = [{"role": "user", "content": "Tell me about KESTREL-12"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "size": {"type": "integer", "minimum": 3, "maximum": 5},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1},
        "extra": {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
    },
}
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}


async def post(server: MockServer, path: str, **body: Any) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.post(path, json={"model": server.model, **body}) as response,
    ):
        text = await response.text()
        if response.content_type == "text/event-stream":
            events = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
            assert events.pop() == "[DONE]"
            return response.status, [json.loads(event) for event in events]
        return response.status, json.loads(text)


async def chat(server: MockServer, **body: Any) -> Any:
    asked = {"messages": MESSAGES, "temperature": 0, **body}
    status, answer = await post(server, "/v1/chat/completions", **asked)
    assert status == 200, answer
    return answer


def check_value(value: Any) -> None:
    assert sorted(value) == ["extra", "name", "size", "tags"]
    assert len(value["name"]) <= 4
    assert 3 <= value["size"] <= 5
    assert set(value["tags"]) <= {"a", "b"}
    assert value["extra"] in (None, True, False)


async def test_logprobs_are_those_of_the_text(mock_server: MockServer) -> None:
    answer = await chat(mock_server, logprobs=True, top_logprobs=3)
    choice = answer["choices"][0]
    entries = choice["logprobs"]["content"]
    assert len(entries) == answer["usage"]["completion_tokens"]
    assert b"".join(bytes(e["bytes"]) for e in entries).decode() == choice["message"]["content"]
    assert {len(entry["top_logprobs"]) for entry in entries} == {3}
    chunks = await chat(mock_server, logprobs=True, top_logprobs=3, stream=True)
    scored = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
    assert [entry for one in scored for entry in one["content"]] == entries


async def test_a_bias_speaks_and_a_penalty_wears_it_out(mock_server: MockServer) -> None:
    forced = await chat(mock_server, logit_bias={"81": 100}, max_tokens=9)
    assert forced["choices"][0]["message"]["content"] == "Q" * 9
    worn = await chat(mock_server, logit_bias={"81": 30}, frequency_penalty=2, max_tokens=20)
    text = worn["choices"][0]["message"]["content"]
    assert text.startswith("QQQQ")
    assert not text.endswith("QQQQ")


async def test_the_form_is_kept(mock_server: MockServer) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA}}
    for seed in range(5):
        answer = await chat(mock_server, response_format=form, temperature=1, seed=seed)
        check_value(json.loads(answer["choices"][0]["message"]["content"]))
    loose = await chat(mock_server, response_format={"type": "json_object"})
    assert isinstance(json.loads(loose["choices"][0]["message"]["content"]), dict)


async def test_functions_are_called_when_they_must_be_or_are_named(mock_server: MockServer) -> None:
    for body in (
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "look"}}},
        {"messages": [{"role": "user", "content": "Please look."}]},
    ):
        [choice] = (await chat(mock_server, tools=[TOOL], **body))["choices"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
        check_value(json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]))
    for body in ({}, {"tool_choice": "none"}):
        [choice] = (await chat(mock_server, tools=[TOOL], **body))["choices"]
        assert choice["message"]["content"]


async def test_completions_echo_and_come_in_order(mock_server: MockServer) -> None:
    _, many = await post(mock_server, "/v1/completions", prompt=["one", "two"], n=2, echo=True, seed=1)
    texts = [choice["text"] for choice in many["choices"]]
    assert [text[:3] for text in texts] == ["one", "one", "two", "two"]
    _, chunks = await post(mock_server, "/v1/completions", prompt="one", echo=True, seed=1, stream=True)
    assert "".join(choice["text"] for chunk in chunks for choice in chunk["choices"]) == texts[0]
    _, ids = await post(mock_server, "/tokenize", prompt="naïve KESTREL")
    _, back = await post(mock_server, "/detokenize", tokens=ids["tokens"])
    assert back == {"prompt": "naïve KESTREL"}
    asked = {"temperature": 0, "max_tokens": 5}
    by_ids = await post(mock_server, "/v1/completions", prompt=ids["tokens"], **asked)
    by_text = await post(mock_server, "/v1/completions", prompt="naïve KESTREL", **asked)
    assert by_ids[1]["choices"] == by_text[1]["choices"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {}, "prompt"),
        ("/v1/completions", {"prompt": []}, "prompt"),
        ("/v1/completions", {"prompt": [{}]}, "prompt"),
        ("/v1/completions", {"prompt": "x", "logprobs": 6}, "logprobs"),
        ("/v1/completions", {"prompt": "x", "best_of": 2}, "best_of"),
        ("/v1/completions", {"prompt": "x", "suffix": "y"}, "suffix"),
        ("/v1/embeddings", {"input": "x"}, "model"),
        ("/tokenize", {}, "prompt"),
        ("/detokenize", {"tokens": [49_999]}, "tokens"),
    ],
)
async def test_refused(mock_server: MockServer, path: str, body: dict[str, Any], param: str) -> None:
    status, answer = await post(mock_server, path, **body)
    assert (status, answer["error"]["param"]) == (400, param)


def test_examples_are_of_their_schema_and_ids_go_back() -> None:
    for draw in (lambda index, choices: 0, lambda index, choices: choices - 1):
        check_value(json.loads(example(SCHEMA, draw)))
    assert complaint(SCHEMA) is None
    assert "not" in str(complaint({"properties": {"x": {"not": {}}}}))
    assert [piece_of(id_of(piece)) for piece in (b"a", b"\xff", b" abc")] == [b"a", b"\xff", b" abc"]
    assert piece_of(49_999) is None
