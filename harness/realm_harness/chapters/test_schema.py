"""The shape of a whole answer."""

from __future__ import annotations

import time

from realm_harness.answers import Json, shown
from realm_harness.case import Broken, Unjudged, case, demand
from realm_harness.prompts import HELLO, STORY
from realm_harness.target import Target

FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
YEAR = 365 * 86400


def is_integer(value: object) -> bool:
    """Whether a JSON value is an integer; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def choices(data: Json) -> list[Json]:
    """The choices; Broken when they are no list of objects with at least one."""
    found = data.get("choices")
    ok = isinstance(found, list) and found and all(isinstance(choice, dict) for choice in found)
    demand(ok, f"choices is {shown(found)}")
    return list(found or [])


@case("CHAT-SCHEMA-001", clause_id="schema.top-keys", reason="typed clients require them")
def test_top_level_keys(target: Target) -> None:
    """An answer has id, object, created, model and choices."""
    data = target.ask(HELLO, 8).data
    demand(isinstance(data.get("id"), str) and data["id"], f"id is {shown(data.get('id'))}")
    demand(data.get("object") == "chat.completion", f"object is {shown(data.get('object'))}")
    demand(is_integer(data.get("created")), f"created is {shown(data.get('created'))}")
    demand(isinstance(data.get("model"), str), f"model is {shown(data.get('model'))}")
    choices(data)


@case("CHAT-SCHEMA-002", clause_id="schema.choice", reason="typed clients require them")
def test_choice_keys(target: Target) -> None:
    """A choice has index, message and finish_reason."""
    for choice in choices(target.ask(HELLO, 8).data):
        demand(is_integer(choice.get("index")), f"a choice's index is {shown(choice.get('index'))}")
        demand(
            isinstance(choice.get("message"), dict), f"a choice's message is {shown(choice.get('message'))}"
        )
        demand("finish_reason" in choice, f"a choice has no finish_reason: its keys are {sorted(choice)}")


@case("CHAT-SCHEMA-003", clause_id="schema.message", reason="a chat goes on with the message that came")
def test_message(target: Target) -> None:
    """The message has the role assistant, and text or null as its content."""
    for choice in choices(target.ask(HELLO, 8).data):
        message = choice.get("message")
        if not isinstance(message, dict):
            raise Broken(f"a choice's message is {shown(message)}")
        demand(message.get("role") == "assistant", f"the message's role is {shown(message.get('role'))}")
        content = message.get("content")
        demand(isinstance(content, str | None), f"the message's content is {shown(content)}")


@case("CHAT-SCHEMA-004", clause_id="schema.finish-enum", reason="clients decide by it whether to go on")
def test_finish_reason(target: Target) -> None:
    """A whole answer's finish reason is one that OpenAI knows."""
    for choice in choices(target.ask(HELLO, 8).data):
        reason = choice.get("finish_reason")
        demand(reason in FINISH_REASONS, f"finish_reason is {shown(reason)}")


@case("CHAT-SCHEMA-005", clause_id="schema.id-unique", reason="logs and caches are keyed by it")
def test_ids_differ(target: Target) -> None:
    """Three answers have three ids."""
    ids = [target.ask(HELLO, 2).data.get("id") for _ in range(3)]
    demand(len(set(map(str, ids))) == 3, f"three answers have the ids {ids}")


@case(
    "CHAT-SCHEMA-006",
    clause_id="schema.created-seconds",
    reason="a time in milliseconds is in the year 58000",
)
def test_created_is_in_seconds(target: Target) -> None:
    """created is a Unix time in seconds, within a year of this machine's clock."""
    created = target.ask(HELLO, 4).data.get("created")
    demand(is_integer(created), f"created is {shown(created)}")
    now = int(time.time())
    demand(abs(int(created or 0) - now) < YEAR, f"created is {created}; now is {now}")


@case(
    "CHAT-SCHEMA-007", clause_id="schema.same-model", reason="costs are booked under the model that answered"
)
def test_stream_names_the_same_model(target: Target) -> None:
    """A stream names the model that a whole answer names."""
    whole = target.ask(HELLO, 4).data.get("model")
    streamed = {str(chunk.data.get("model")) for chunk in target.stream(HELLO, 4).chunks}
    demand(streamed == {str(whole)}, f"the whole answer's model is {whole!r}, the stream's: {streamed}")


@case("CHAT-SCHEMA-008", clause_id="schema.n", reason="a program that asks for two answers reads the second")
def test_two_choices(target: Target) -> None:
    """n = 2 brings two choices with the indexes 0 and 1."""
    answer = target.ask(STORY, 8, n=2)
    indexes = [choice.get("index") for choice in answer.choices]
    demand(indexes == [0, 1] or indexes == [1, 0], f"n = 2 was accepted and brought the indexes {indexes}")


@case("CHAT-SCHEMA-009", clause_id="schema.id-prefix", reason="some tools tell kinds of answers apart by it")
def test_id_prefix(target: Target) -> None:
    """How ids look."""
    raise Unjudged(f"an id: {shown(target.ask(HELLO, 2).data.get('id'))}")
