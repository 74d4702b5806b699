"""response_format: JSON when it was asked for, of the schema that was given."""

from __future__ import annotations

import json
from typing import Any

from realm_harness.answers import Json, shown
from realm_harness.case import Broken, Unjudged, case, demand
from realm_harness.chapters.test_errors import refused_value
from realm_harness.prompts import STORY
from realm_harness.target import Target

TOKENS = 200
QUESTION = "Describe a fruit: its colour and how many of them are in a basket. Answer in JSON."
SHORT = 'Answer with exactly this JSON: {"answer": "yes"}'
COLOURS = ["red", "green", "yellow"]
COUNTS = [1, 2, 3, 4]  # of any size they might go on for ever
SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"type": "string", "enum": COLOURS},
        "count": {"type": "integer", "enum": COUNTS},
        "ripe": {"type": "boolean"},
    },
    "required": ["colour", "count", "ripe"],
    "additionalProperties": False,
}


def of_schema(schema: Any, name: str | None = "fruit") -> Json:
    """A response_format with this schema."""
    named = {} if name is None else {"name": name}
    return {"type": "json_schema", "json_schema": {**named, "strict": True, "schema": schema}}


def value_of(text: str, finish: object) -> Any:
    """The JSON that an answer is; Unjudged when it was cut, Broken when it is none."""
    try:
        return json.loads(text)
    except ValueError:
        if finish == "length":
            raise Unjudged(f"the answer was cut at {TOKENS} tokens: {shown(text)}") from None
        raise Broken(f"the answer is not JSON: {shown(text)}") from None


def check_fruit(value: Any) -> None:
    """Broken unless the value is one that SCHEMA accepts."""
    demand(isinstance(value, dict), f"the answer is {shown(value)}, not the object that the schema asks for")
    demand(sorted(value) == ["colour", "count", "ripe"], f"the answer's keys are {shown(sorted(value))}")
    count = value["count"]
    whole = isinstance(count, int) and not isinstance(count, bool)
    demand(whole and count in COUNTS, f"`count` is {shown(count)}, not one of {COUNTS}")
    demand(isinstance(value["ripe"], bool), f"`ripe` is {shown(value['ripe'])}, not a boolean")


@case("CHAT-FORMAT-001", clause_id="format.json-object", reason="programs parse the answer")
def test_json_object(target: Target) -> None:
    """json_object brings an answer that is a JSON object."""
    answer = target.ask(SHORT, TOKENS, temperature=0, response_format={"type": "json_object"})
    value = value_of(answer.text(), answer.finish())
    demand(isinstance(value, dict), f"the answer is JSON but no object: {shown(value)}")


@case("CHAT-FORMAT-002", clause_id="format.schema", reason="programs read the fields that they asked for")
def test_schema(target: Target) -> None:
    """json_schema brings an answer that the schema accepts."""
    answer = target.ask(QUESTION, TOKENS, temperature=0, response_format=of_schema(SCHEMA))
    check_fruit(value_of(answer.text(), answer.finish()))


@case("CHAT-FORMAT-003", clause_id="format.enum", reason="programs branch on the value")
def test_enum(target: Target) -> None:
    """A value out of an enum is one of it."""
    answer = target.ask(QUESTION, TOKENS, temperature=0, response_format=of_schema(SCHEMA))
    value = value_of(answer.text(), answer.finish())
    colour = value.get("colour") if isinstance(value, dict) else None
    demand(colour in COLOURS, f"`colour` is {shown(colour)}, not one of {COLOURS}")


@case("CHAT-FORMAT-004", clause_id="format.stream", reason="a stream is to be as good as a whole answer")
def test_schema_in_a_stream(target: Target) -> None:
    """A streamed answer keeps the schema too."""
    stream = target.stream(QUESTION, TOKENS, temperature=0, response_format=of_schema(SCHEMA))
    check_fruit(value_of(stream.text(), stream.finish()))


@case("CHAT-FORMAT-005", clause_id="format.hot", reason="a prompt alone keeps the form only when it is cold")
def test_schema_at_a_high_temperature(target: Target) -> None:
    """At temperature 2 the schema is kept all the same."""
    for seed in (1, 2, 3):
        answer = target.ask(STORY, TOKENS, temperature=2, seed=seed, response_format=of_schema(SCHEMA))
        check_fruit(value_of(answer.text(), answer.finish()))


@case("CHAT-FORMAT-006", clause_id="format.text", reason="clients send their defaults", confirm=True)
def test_text_is_the_default(target: Target) -> None:
    """The format text is as good as none."""
    plain = target.settled(STORY, 12)
    text = target.ask(STORY, 12, temperature=0, response_format={"type": "text"}).text()
    demand(text == plain, f"with the format text the answer is {shown(text)}, without {shown(plain)}")


@case("CHAT-FORMAT-007", clause_id="format.type", reason="a form that nobody keeps is a wrong promise")
def test_unknown_format(target: Target) -> None:
    """A format of an unknown type is refused with a 4xx."""
    refused_value(target, "response_format", {"type": "yaml"})


@case("CHAT-FORMAT-008", clause_id="format.schema-name", reason="openapi.json requires the name")
def test_schema_without_a_name(target: Target) -> None:
    """A json_schema without a name is refused with a 4xx."""
    refused_value(target, "response_format", of_schema(SCHEMA, name=None))


@case("CHAT-FORMAT-009", clause_id="format.bad-schema", reason="a schema that is not kept must not be taken")
def test_schema_that_is_none(target: Target) -> None:
    """A schema with a type that JSON does not have is refused with a 4xx that names response_format."""
    body = refused_value(target, "response_format", of_schema({"type": "banana"})).body
    said = body.decode("utf-8", "replace")
    demand("response_format" in said or "schema" in said, f"the refusal names neither: {shown(said)}")
