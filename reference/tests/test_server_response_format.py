"""response_format over the wire: what comes keeps the schema, whichever guest and sampler makes it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import jsonschema  # type: ignore[import-untyped]
import pytest

CHAT = "/v1/chat/completions"
StartServer = Callable[..., Awaitable[Any]]
COLOURS = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green", "blue"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["colour", "count"],
    "additionalProperties": False,
}


def schema_format(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}


@pytest.mark.parametrize("guest", ["v1", "v2"])
async def test_the_answer_keeps_the_schema(start_server: StartServer, guest: str) -> None:
    server = await start_server(guest)
    for seed in range(4):
        answer = await server.ask(
            response_format=schema_format(COLOURS, strict=True), temperature=1.5, seed=seed, max_tokens=200
        )
        [choice] = answer["choices"]
        assert choice["finish_reason"] == "stop"
        jsonschema.validate(json.loads(choice["message"]["content"]), COLOURS)


async def test_each_choice_keeps_it_and_streams_it(server: Any) -> None:
    asked = {
        "response_format": schema_format(COLOURS),
        "temperature": 1.5,
        "seed": 3,
        "max_tokens": 200,
        "n": 3,
    }
    whole = await server.ask(**asked)
    texts = [choice["message"]["content"] for choice in whole["choices"]]
    assert len(set(texts)) > 1
    _, stream = await server.stream(**asked)
    streamed = ["", "", ""]
    for event in stream.split("\n\n"):
        if event.startswith("data: {"):
            for choice in json.loads(event.removeprefix("data: "))["choices"]:
                streamed[choice["index"]] += choice["delta"].get("content", "")
    assert streamed == texts


async def test_json_object_is_one(server: Any) -> None:
    closing = {str(server.service.model.tokenizer.encode("}")[0]): 40}
    answer = await server.ask(
        response_format={"type": "json_object"}, temperature=1.0, seed=1, max_tokens=100, logit_bias=closing
    )
    assert isinstance(json.loads(answer["choices"][0]["message"]["content"]), dict)


async def test_no_bias_lifts_what_the_schema_forbids(server: Any) -> None:
    [wanted] = server.service.model.tokenizer.encode("Q")
    answer = await server.ask(
        response_format=schema_format(COLOURS), logit_bias={str(wanted): 100}, max_tokens=200
    )
    jsonschema.validate(json.loads(answer["choices"][0]["message"]["content"]), COLOURS)


async def test_a_limit_cuts_it_and_says_so(server: Any) -> None:
    answer = await server.ask(response_format=schema_format(COLOURS), max_tokens=3)
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_text_is_the_default(server: Any) -> None:
    plain, text = await server.ask(), await server.ask(response_format={"type": "text"})
    assert plain["choices"] == text["choices"]


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ("json", "response_format"),
        ({}, "response_format.type"),
        ({"type": "yaml"}, "response_format.type"),
        ({"type": "text", "json_schema": {}}, "response_format.json_schema"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, "response_format.json_schema.name"),
        ({"type": "json_schema", "json_schema": {"name": "a b"}}, "response_format.json_schema.name"),
        (schema_format(True), "response_format.json_schema.schema"),
        (schema_format({}, strict=1), "response_format.json_schema.strict"),
        (schema_format({}, version=1), "response_format.json_schema.version"),
    ],
)
async def test_what_is_no_form_is_refused(
    server: Any, client: aiohttp.ClientSession, form: Any, param: str
) -> None:
    response = await client.post(CHAT, json=server.body(response_format=form))
    assert response.status == 400, await response.text()
    assert (await response.json())["error"]["param"] == param


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "uniqueItems": True},
        {"not": {}},
        {"const": -(2**63)},  # would end the process, were it not asked
    ],
)
async def test_a_schema_that_cannot_be_kept_is_unprocessable(
    server: Any, client: aiohttp.ClientSession, schema: Any
) -> None:
    response = await client.post(CHAT, json=server.body(response_format=schema_format(schema)))
    assert response.status == 422, await response.text()
    error = (await response.json())["error"]
    assert (error["param"], error["code"]) == ("response_format", "unsupported_schema")
    assert server.service.engine.open_sessions == 0


async def test_a_schema_that_costs_too_much_is_the_requests_fault(
    server: Any, client: aiohttp.ClientSession
) -> None:
    """It compiles, and only its use shows the price: with each token thousands of ways stay open."""
    ways = [
        {"type": "object", "properties": {f"p{way}": {"type": "string"}}, "required": [f"p{way}"]}
        for way in range(2500)
    ]
    body = server.body(response_format=schema_format({"anyOf": ways}), max_tokens=20)
    response = await client.post(CHAT, json=body)
    assert response.status == 422, await response.text()
    error = (await response.json())["error"]
    assert (error["param"], error["code"]) == ("response_format", "too_complex")
    assert server.service.engine.open_sessions == 0
