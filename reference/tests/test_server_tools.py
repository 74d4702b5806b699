"""Functions to call: what is rendered, what may be said, how calls are told, and what is refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import aiohttp
import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI, pydantic_function_tool
from pydantic import BaseModel
from realm_reference.model.model import Model, load_model
from realm_reference.server.answers.calls import Call, joined
from realm_reference.server.answers.tagged_calls import TaggedCallReader

CHAT = "/v1/chat/completions"
StartServer = Callable[..., Awaitable[Any]]
TEMPLATE = """{%- if tools %}<|im_start|>system
Call functions as <tool_call>\\n{"name": ..., "arguments": ...}\\n</tool_call>. There are:
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def function(name: str, **properties: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": name, "parameters": schema}}


WEATHER = function(
    "weather", city={"enum": ["Rome", "Oslo"]}, days={"type": "integer", "maximum": 9, "minimum": 1}
)
TIME = function("time", zone={"type": "string", "maxLength": 3})
SCHEMAS = {tool["function"]["name"]: tool["function"]["parameters"] for tool in (WEATHER, TIME)}
FORM = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
CALLED = {"name": "weather", "arguments": '{"city": "Rome"}'}
ASKED = {"tools": [WEATHER, TIME], "temperature": 1.2, "max_tokens": 200}


@pytest.fixture(scope="module")
def model(make_gguf: Callable[..., Path]) -> Model:
    """The tiny model with a chat template that knows functions."""
    return load_model(make_gguf({"tokenizer.chat_template": TEMPLATE, "llama.context_length": 2048}))


@pytest.fixture
async def server(start_server: StartServer, model: Model) -> Any:
    return await start_server(model=model)


async def refused(client: aiohttp.ClientSession, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(CHAT, json=body)
    assert response.status == 400, await response.text()
    error: dict[str, Any] = (await response.json())["error"]
    return error


def check_calls(message: dict[str, Any]) -> list[str]:
    """The names of the functions that were called, arguments checked."""
    names = []
    for call in message["tool_calls"]:
        assert (set(call), call["type"]) == ({"id", "type", "function"}, "function")
        assert call["id"].startswith("call_")
        names.append(call["function"]["name"])
        jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMAS[names[-1]])
    return names


async def test_a_call_that_is_required_comes(server: Any) -> None:
    for seed in range(4):
        answer = await server.ask(**ASKED, tool_choice="required", parallel_tool_calls=False, seed=seed)
        [choice] = answer["choices"]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        assert len(check_calls(choice["message"])) == 1


@pytest.mark.parametrize("guest", ["v1", "v2"])
async def test_the_named_function_is_called(start_server: StartServer, model: Model, guest: str) -> None:
    server = await start_server(guest, model=model)
    for name in ("weather", "time"):
        choice = {"type": "function", "function": {"name": name}}
        answer = await server.ask(**ASKED, tool_choice=choice, seed=1)
        assert check_calls(answer["choices"][0]["message"]) == [name]


async def test_a_stream_tells_the_calls_of_the_whole_answer(server: Any) -> None:
    asked = {**ASKED, "tool_choice": "required", "seed": 5, "n": 2, "max_tokens": 300}
    whole = await server.ask(**asked)
    _, text = await server.stream(**asked)
    chunks = [json.loads(e.removeprefix("data: ")) for e in text.split("\n\n") if e.startswith("data: {")]
    for choice in whole["choices"]:
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        deltas = [one for c in mine for one in c["delta"].get("tool_calls", [])]
        expected = choice["message"].get("tool_calls", [])
        for index, call in enumerate(expected):
            pieces = [one for one in deltas if one["index"] == index]
            assert len(pieces) > 3, "arguments come as they are made"
            assert [one["id"] for one in pieces if "id" in one] == [pieces[0]["id"]]
            assert pieces[0]["function"]["name"] == call["function"]["name"]
            joined = "".join(one["function"]["arguments"] for one in pieces)
            assert joined == call["function"]["arguments"]
        assert {one["index"] for one in deltas} == set(range(len(expected)))
        assert mine[-1]["finish_reason"] == choice["finish_reason"]
        assert "".join(c["delta"].get("content", "") for c in mine) == (choice["message"]["content"] or "")


async def test_auto_leaves_it_to_the_model(server: Any) -> None:
    plain = await server.ask(**ASKED, seed=2)
    assert plain["choices"][0]["message"].get("tool_calls") is None
    assert plain["choices"][0]["finish_reason"] in ("stop", "length")
    none = await server.ask(**ASKED, tool_choice="none", seed=2)
    without = await server.ask(**{**ASKED, "tools": []}, seed=2)
    assert none["choices"] == without["choices"], "functions that may not be called are not rendered"


async def test_with_a_schema_there_is_an_answer_of_it_or_a_call(server: Any) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": FORM}}
    for seed in range(4):
        asked = {**ASKED, "max_tokens": 500, "parallel_tool_calls": False}
        [choice] = (await server.ask(**asked, response_format=form, seed=seed))["choices"]
        if choice["finish_reason"] == "tool_calls":
            check_calls(choice["message"])
        else:
            jsonschema.validate(json.loads(choice["message"]["content"]), FORM)


async def test_a_limit_cuts_arguments_as_it_cuts_text(server: Any) -> None:
    asked = {**ASKED, "tool_choice": "required", "seed": 1}
    [whole] = (await server.ask(**asked, parallel_tool_calls=False))["choices"]
    [choice] = (await server.ask(**{**asked, "max_tokens": 60}))["choices"]
    assert choice["finish_reason"] == "length"
    [cut], [call] = choice["message"]["tool_calls"], whole["message"]["tool_calls"]
    assert call["function"]["arguments"].startswith(cut["function"]["arguments"])
    [choice] = (await server.ask(**{**asked, "max_tokens": 12}))["choices"]
    assert choice["message"]["content"].startswith("<tool_call>"), "no name yet: no call"
    assert "tool_calls" not in choice["message"]


async def test_calls_and_their_answers_are_rendered(server: Any, model: Model) -> None:
    call = {"id": "c1", "type": "function", "function": CALLED}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "How warm is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "21 degrees"},
    ]
    answer = await server.ask(messages=messages, tools=[WEATHER])
    assert model.chat is not None
    seen = {"function": {"name": "weather", "arguments": {"city": "Rome"}}}
    rendered = [messages[0], {"role": "assistant", "content": "", "tool_calls": [seen]}, messages[2]]
    text = model.chat.render(rendered, tools=[WEATHER])
    assert '"arguments": {"city": "Rome"}' in text
    assert answer["usage"]["prompt_tokens"] == len(model.tokenizer.encode(text))


class Trip(BaseModel):
    """Plan a trip."""

    city: Literal["Rome", "Oslo"]
    days: Literal[1, 2, 3]


async def test_the_official_client_goes_a_round(server: Any) -> None:
    client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    messages: list[Any] = [{"role": "user", "content": "Plan a trip."}]
    asked: dict[str, Any] = {
        "model": server.model,
        "tools": [pydantic_function_tool(Trip)],
        "max_tokens": 200,
    }
    async with client.chat.completions.stream(
        messages=messages, tool_choice="required", parallel_tool_calls=False, seed=1, **asked
    ) as stream:
        kinds = {event.type async for event in stream}
        [choice] = (await stream.get_final_completion()).choices
    assert "tool_calls.function.arguments.done" in kinds
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Trip)
    result = {"role": "tool", "tool_call_id": call.id, "content": "booked"}
    messages += [choice.message, result]
    again = await client.chat.completions.create(messages=messages, **asked)
    assert again.choices[0].finish_reason in ("stop", "length")
    await client.close()


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"tools": "x"}, "tools"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [function("a b")]}, "tools[0].function.name"),
        ({"tools": [TIME, TIME]}, "tools"),
        ({"tools": [{"type": "function", "function": CALLED}]}, "tools[0].function.arguments"),
        ({"tools": [{**TIME, "colour": 5}]}, "tools[0].colour"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TIME], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [TIME], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tools": [TIME], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
)  # fmt: skip
async def test_refused_with_the_parameters_name(
    server: Any, client: aiohttp.ClientSession, changes: dict[str, Any], param: str
) -> None:
    assert (await refused(client, server.body(**changes)))["param"] == param


async def test_a_schema_of_arguments_that_cannot_be_kept(server: Any, client: aiohttp.ClientSession) -> None:
    response = await client.post(CHAT, json=server.body(tools=[function("f", x={"not": {}})]))
    assert response.status == 422, await response.text()
    assert (await response.json())["error"]["param"] == "tools"


async def test_a_template_without_functions_says_so(start_server: StartServer) -> None:
    server = await start_server()
    call = {"id": "c", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    async with aiohttp.ClientSession(server.url) as client:
        error = await refused(client, server.body(tools=[TIME]))
        assert (error["param"], error["code"]) == ("tools", "unsupported_parameter")
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}]
        error = await refused(client, server.body(messages=messages))
        assert error["param"] == "messages[1].tool_calls"
    assert (await server.ask(tools=[], tool_choice="auto"))["choices"]


def read(pieces: list[str]) -> tuple[str, list[tuple[int, str | None, str]]]:
    reader, said, calls = TaggedCallReader(), "", list[Call]()
    for piece in pieces:
        text, more = reader.push(piece)
        said += text
        calls += more
    return said + reader.end(), [(call.index, call.name, call.arguments) for call in joined(calls)]


CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "</b> \\u00e9}"}}\n</tool_call>'
PARTS = st.lists(
    st.sampled_from(
        [CALL, "hello", " ", "\n", "<tool", "_call>", "</tool_call>", "<tool_call>", "{}", "é🙂"]
    ),
    max_size=8,
)


@given(parts=PARTS, cuts=st.lists(st.integers(0, 200), max_size=12))
def test_where_a_text_is_cut_makes_no_difference(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(borders)]
    assert read(pieces) == read(list(text)) == read([text])


def test_text_round_calls_is_kept_and_space_is_not() -> None:
    arguments = '{"a": "</b> \\u00e9}"}'
    assert read([f"I look.\n{CALL}\n{CALL}\n"]) == ("I look.", [(0, "f", arguments), (1, "f", arguments)])
    assert read([f" {CALL}\nDone. "]) == ("Done. ", [(0, "f", arguments)])
    assert read(["  a < b <tool "]) == ("  a < b <tool ", [])
    assert read(["<tool_call>\nnot JSON</tool_call>"]) == ("<tool_call>\nnot JSON</tool_call>", [])


def test_what_may_become_a_tag_is_held_back() -> None:
    reader = TaggedCallReader()
    assert reader.push("yes <tool_c") == ("yes", [])
    assert reader.push("ake>") == (" <tool_cake>", [])
