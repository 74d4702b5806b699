"""tools and tool_choice: that functions are called when they must be, in the right shape."""

from __future__ import annotations

import json
from typing import Any

from realm_harness.answers import Answer, Json, Stream, shown
from realm_harness.case import Broken, Unjudged, case, demand
from realm_harness.chapters.test_errors import refused
from realm_harness.target import Target

TOKENS = 150
QUESTION = "What is the weather in Rome? Use get_weather."
CITIES = ["Rome", "Oslo"]
RAW_CALLS = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<function=")
"""How models write calls, each family in its own syntax."""

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": CITIES},
        "days": {"type": "integer", "enum": [1, 2, 3]},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}


def function(name: str) -> Json:
    """A function with a city and a number of days."""
    described = {"name": name, "description": f"What {name} tells of a city.", "parameters": SCHEMA}
    return {"type": "function", "function": described}


TOOLS = [function("get_weather"), function("get_history")]


def ask(target: Target, choice: Any, **params: Any) -> Answer:
    """A greedy answer with the two functions."""
    tokens = 24 if choice == "none" else TOKENS
    return target.ask(QUESTION, tokens, temperature=0, tools=TOOLS, tool_choice=choice, **params)


def calls(answer: Answer) -> list[Json]:
    """The calls of a message; Broken when they are no list of objects, Unjudged when the cap cut them."""
    found = answer.message().get("tool_calls")
    if answer.finish() == "length":
        raise Unjudged(f"the answer was cut at {TOKENS} tokens: {shown(found or answer.text())}")
    listed = isinstance(found, list) and found and all(isinstance(one, dict) for one in found)
    demand(listed, f"`tool_calls` is {shown(found)}, the content is {shown(answer.text())}")
    return list(found or [])


def called(call: Json) -> tuple[str, str]:
    """Name and arguments of a call; Broken when they are no text."""
    inner = call.get("function")
    name, arguments = (inner.get("name"), inner.get("arguments")) if isinstance(inner, dict) else (None, None)
    fine = isinstance(name, str) and isinstance(arguments, str)
    demand(fine, f"a call's function is {shown(inner)}, without name and arguments as text")
    return str(name), str(arguments)


@case("CHAT-TOOLS-001", clause_id="tools.required", reason="agents wait for the call")
def test_required(target: Target) -> None:
    """tool_choice required brings calls with id, type and function."""
    for call in calls(ask(target, "required")):
        identified = isinstance(call.get("id"), str) and call["id"]
        demand(identified, f"a call's id is {shown(call.get('id'))}")
        demand(call.get("type") == "function", f"a call's type is {shown(call.get('type'))}")
        called(call)


@case("CHAT-TOOLS-002", clause_id="tools.arguments", reason="agents parse the arguments")
def test_arguments(target: Target) -> None:
    """A call's arguments are JSON as its parameters say, its function is one of those that there are."""
    for call in calls(ask(target, "required")):
        name, written = called(call)
        demand(name in ("get_weather", "get_history"), f"the function {shown(name)} is called, and is none")
        try:
            arguments = json.loads(written)
        except ValueError:
            raise Broken(f"a call's arguments are not JSON: {shown(written)}") from None
        keys = sorted(arguments) if isinstance(arguments, dict) else None
        demand(keys == ["city", "days"], f"a call's arguments are {shown(written)}")
        demand(arguments["city"] in CITIES, f"`city` is {shown(arguments['city'])}, not one of {CITIES}")
        demand(arguments["days"] in (1, 2, 3), f"`days` is {shown(arguments['days'])}, not 1, 2 or 3")


@case("CHAT-TOOLS-003", clause_id="tools.named", reason="the client has chosen, not the model")
def test_named(target: Target) -> None:
    """A function that tool_choice names is the one that is called."""
    for name in ("get_history", "get_weather"):
        made = ask(target, {"type": "function", "function": {"name": name}})
        names = [called(call)[0] for call in calls(made)]
        demand(set(names) == {name}, f"tool_choice names {name}, and {names} are called")


@case("CHAT-TOOLS-004", clause_id="tools.finish", reason="agents branch on it")
def test_finish_reason(target: Target) -> None:
    """An answer that calls because it must has the finish reason tool_calls."""
    answer = ask(target, "required")
    calls(answer)
    demand(answer.finish() == "tool_calls", f"the finish reason is {shown(answer.finish())}")


@case("CHAT-TOOLS-005", clause_id="tools.none", reason="a call that nobody may make is not made")
def test_none(target: Target) -> None:
    """tool_choice none brings text and no call."""
    answer = ask(target, "none")
    found = answer.message().get("tool_calls")
    demand(not found, f"with tool_choice none there are calls: {shown(found)}")
    demand(answer.text(), "with tool_choice none there is no text")


def streamed(target: Target) -> tuple[Stream, list[Json]]:
    """A stream that must call, and its deltas of calls."""
    stream = target.stream(QUESTION, TOKENS, temperature=0, tools=TOOLS, tool_choice="required")
    deltas = [choice.get("delta") for chunk in stream.chunks for choice in chunk.choices]
    listed = [delta.get("tool_calls") or [] for delta in deltas if isinstance(delta, dict)]
    demand(all(isinstance(calls, list) for calls in listed), f"tool_calls of deltas are {shown(listed)}")
    found = [one for calls in listed for one in calls]
    demand(all(isinstance(one, dict) for one in found), f"deltas of calls are {shown(found)}")
    return stream, found


@case("CHAT-TOOLS-006", clause_id="tools.stream-shape", reason="clients put calls together by their index")
def test_streamed_deltas(target: Target) -> None:
    """Each delta of a call has an index; the id and the name come with the first of each, and only there."""
    stream, deltas = streamed(target)
    if not deltas and stream.finish() == "length":
        raise Unjudged(f"the stream was cut at {TOKENS} tokens")
    demand(deltas, f"a stream that must call has no tool_calls: {shown(stream.text())}")
    seen: set[int] = set()
    for delta in deltas:
        index = delta.get("index")
        demand(isinstance(index, int), f"a delta's index is {shown(index)}")
        first = index not in seen
        demand(
            bool(delta.get("id")) == first, f"delta {'first' if first else 'later'} of a call: {shown(delta)}"
        )
        seen.add(int(index or 0))


@case(
    "CHAT-TOOLS-007",
    clause_id="tools.stream-equal",
    reason="the same request has the same calls",
    confirm=True,
)
def test_streamed_calls_are_those_of_the_whole(target: Target) -> None:
    """A stream calls what the whole answer calls, and finishes as it does."""
    whole = ask(target, "required")
    expected = [called(call) for call in calls(whole)]
    stream, deltas = streamed(target)
    joined: dict[int, list[str]] = {}
    for delta in deltas:
        index, inner = delta.get("index", 0), delta.get("function") or {}
        fine = isinstance(index, int) and isinstance(inner, dict)
        demand(fine, f"a delta of a call is {shown(delta)}")
        parts = joined.setdefault(index, ["", ""])
        for place, key in enumerate(("name", "arguments")):
            piece = inner.get(key) or ""
            demand(isinstance(piece, str), f"the {key} in a delta of a call is {shown(piece)}")
            parts[place] += piece
    told = [(name, arguments) for name, arguments in joined.values()]
    demand(told == expected, f"the stream calls {shown(told)}, the whole answer {shown(expected)}")
    demand(
        stream.finish() == whole.finish(),
        f"the stream finishes with {shown(stream.finish())}, the whole answer with {shown(whole.finish())}",
    )


@case("CHAT-TOOLS-008", clause_id="tools.round", reason="an agent's second request holds its first call")
def test_second_round(target: Target) -> None:
    """A conversation with a call and its result is continued."""
    arguments = json.dumps({"city": "Rome", "days": 1})
    made = {"name": "get_weather", "arguments": arguments}
    messages: list[Json] = [
        {"role": "user", "content": QUESTION},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": made}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny, 21 degrees."},
    ]
    answer = target.ask(messages, 24, temperature=0, tools=TOOLS)
    demand(answer.text() or answer.message().get("tool_calls"), "the answer to a tool's result is empty")


@case("CHAT-TOOLS-009", clause_id="tools.unknown-choice", reason="a function that there is not is a typo")
def test_choice_of_an_unknown_function(target: Target) -> None:
    """tool_choice with a function that is not in tools is refused with a 4xx."""
    target.ask(QUESTION, 1, tools=TOOLS)  # Unsupported where there are no tools
    choice = {"type": "function", "function": {"name": "get_nothing"}}
    refused(target, target.body(QUESTION, 4, tools=TOOLS, tool_choice=choice), "a choice that is no function")


@case("CHAT-TOOLS-010", clause_id="tools.bad-tool", reason="openapi.json requires the name")
def test_function_without_a_name(target: Target) -> None:
    """A function without a name is refused with a 4xx."""
    target.ask(QUESTION, 1, tools=TOOLS)  # Unsupported where there are no tools
    refused(target, target.body(QUESTION, 4, tools=[{"type": "function", "function": {}}]), "no name")


@case("CHAT-TOOLS-011", clause_id="tools.content", reason="a chat shows the content to people")
def test_content_is_not_the_call(target: Target) -> None:
    """The content beside a call holds neither the call as the model wrote it nor its arguments."""
    answer = ask(target, "required")
    written = [called(call)[1] for call in calls(answer)]
    stream, deltas = streamed(target)
    for said, what in ((answer.text(), "an answer"), (stream.text() if deltas else "", "a stream")):
        found = [raw for raw in (*RAW_CALLS, *written) if raw and raw in said]
        demand(not found, f"the content of {what} that calls is {shown(said)}")
