"""Refusals: what must be refused, with which status, and what the error object looks like."""

from __future__ import annotations

import json
from typing import Any

from realm_harness.answers import Json, shown
from realm_harness.case import Broken, Unjudged, case, demand
from realm_harness.exchange import Exchange
from realm_harness.prompts import HELLO
from realm_harness.target import MODELS, Target

RETRIED = (408, 409, 429)
"""Statuses of the 400s that openai-python sends again."""


def refused(target: Target, body: Json | bytes, what: str) -> Exchange:
    """Send a bad request; Broken unless it is refused with a 4xx that clients do not retry."""
    exchange = target.post(body)
    status = exchange.status or 0
    said = shown(exchange.body.decode("utf-8", "replace"))
    demand(status >= 400, f"{what} was answered with {status} in place of a refusal: {said}")
    demand(status < 500, f"{what} got {status}, a server error, which clients retry: {said}")
    demand(status not in RETRIED, f"{what} got {status}, which clients retry: {said}")
    return exchange


def refused_value(target: Target, param: str, value: Any) -> Exchange:
    """Like `refused`, for an otherwise good request with one bad value."""
    return refused(target, target.body(HELLO, 4) | {param: value}, f"`{param}`: {json.dumps(value)}")


def any_refusal(target: Target) -> Exchange:
    """A refusal to look at, whatever its status; Unjudged when the server refuses nothing."""
    exchange = target.post(target.body(HELLO, 4) | {"messages": "hello"})
    if (exchange.status or 0) < 400:
        raise Unjudged(f'`messages`: "hello" is answered with {exchange.status}: see CHAT-ERROR-003')
    return exchange


def error_object(exchange: Exchange) -> Json:
    """The error object of a refusal; Broken when there is none."""
    said = shown(exchange.body.decode("utf-8", "replace"))
    try:
        body = json.loads(exchange.body)
    except ValueError:
        raise Broken(f"the body of the {exchange.status} is not JSON: {said}") from None
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        raise Broken(f"the body of the {exchange.status} has no object `error`: {said}")
    return error


@case(
    "CHAT-ERROR-001",
    clause_id="error.malformed-json",
    reason="a 500 makes clients send the same broken body again",
)
def test_malformed_json(target: Target) -> None:
    """A body that is not JSON is refused with a 4xx."""
    refused(target, b'{"model": "x", "messages": [', "a body that is not JSON")


@case("CHAT-ERROR-002", clause_id="error.messages-required", reason="an answer to nothing is made up")
def test_missing_messages(target: Target) -> None:
    """A request without messages is refused with a 4xx."""
    refused(target, {"model": target.model, target.cap_parameter: 4}, "a request without `messages`")


@case(
    "CHAT-ERROR-003",
    clause_id="error.messages-type",
    reason="a wrong type is a bug in the client, which it should see",
)
def test_messages_of_wrong_type(target: Target) -> None:
    """Messages that are a string are refused with a 4xx."""
    refused_value(target, "messages", "hello")


@case("CHAT-ERROR-004", clause_id="error.messages-empty", reason="empty prompts have killed whole engines")
def test_empty_messages(target: Target) -> None:
    """An empty list of messages is refused with a 4xx."""
    refused_value(target, "messages", [])


@case(
    "CHAT-ERROR-005",
    clause_id="error.message-role",
    reason="a template without a role renders a wrong prompt",
)
def test_message_without_role(target: Target) -> None:
    """A message without a role is refused with a 4xx."""
    refused_value(target, "messages", [{"content": "hello"}])


@case(
    "CHAT-ERROR-006",
    clause_id="error.temperature-type",
    reason="a parameter that is silently dropped changes the answer",
)
def test_temperature_of_wrong_type(target: Target) -> None:
    """A temperature that is a word is refused with a 4xx."""
    refused_value(target, "temperature", "hot")


@case(
    "CHAT-ERROR-007",
    clause_id="error.temperature-low",
    reason="a negative temperature turns the distribution over",
)
def test_temperature_below_zero(target: Target) -> None:
    """A negative temperature is refused with a 4xx."""
    refused_value(target, "temperature", -1)


@case("CHAT-ERROR-008", clause_id="error.temperature-high", reason="the official range ends at 2")
def test_temperature_above_two(target: Target) -> None:
    """A temperature above 2 is refused with a 4xx."""
    refused_value(target, "temperature", 2.5)


@case("CHAT-ERROR-009", clause_id="error.top-p-range", reason="a share of the probability cannot exceed 1")
def test_top_p_above_one(target: Target) -> None:
    """A top_p above 1 is refused with a 4xx."""
    refused_value(target, "top_p", 1.5)


@case("CHAT-ERROR-010", clause_id="error.n-range", reason="no choices means no answer")
def test_n_zero(target: Target) -> None:
    """n = 0 is refused with a 4xx."""
    refused_value(target, "n", 0)


@case(
    "CHAT-ERROR-011",
    clause_id="error.stop-type",
    reason="a stop that is silently dropped lets the answer run on",
)
def test_stop_of_wrong_type(target: Target) -> None:
    """A stop that is a number is refused with a 4xx."""
    refused_value(target, "stop", 42)


@case(
    "CHAT-ERROR-012",
    clause_id="error.stream-type",
    reason="a client that waits for a stream gets something else",
)
def test_stream_of_wrong_type(target: Target) -> None:
    """A stream flag that is an array is refused with a 4xx."""
    refused_value(target, "stream", [True])


@case(
    "CHAT-ERROR-013",
    clause_id="error.max-tokens-type",
    reason="a cap that is silently dropped lets the answer run on",
)
def test_max_tokens_of_wrong_type(target: Target) -> None:
    """A max_tokens that is a word is refused with a 4xx."""
    refused(target, target.body(HELLO) | {"max_tokens": "ten"}, '`max_tokens`: "ten"')


@case(
    "CHAT-ERROR-014",
    clause_id="error.not-an-object",
    reason="a 500 makes clients send the same broken body again",
)
def test_body_is_an_array(target: Target) -> None:
    """A JSON body that is an array is refused with a 4xx."""
    refused(target, b"[1, 2, 3]", "a body that is an array")


@case(
    "CHAT-ERROR-015",
    clause_id="error.unknown-model",
    reason="a typo in the model's name must not be answered by another model",
)
def test_unknown_model(target: Target) -> None:
    """A model that nobody has is refused with 404."""
    exchange = target.post(target.body(HELLO, 4) | {"model": "realm-no-such-model"})
    demand(
        exchange.status == 404,
        f"a request for the model 'realm-no-such-model' got {exchange.status}: {shown(exchange.body)}",
    )


@case("CHAT-ERROR-016", clause_id="error.object", reason="clients show error.message to the user")
def test_error_object(target: Target) -> None:
    """A refusal brings {"error": {"message": ...}} as JSON."""
    error = error_object(any_refusal(target))
    message = error.get("message")
    demand(isinstance(message, str) and message.strip(), f"error.message is {shown(message)}")


@case(
    "CHAT-ERROR-017",
    clause_id="error.object-keys",
    reason="programs tell errors apart by type, param and code",
)
def test_error_object_keys(target: Target) -> None:
    """The error object has message, type, param and code, of the right types."""
    error = error_object(any_refusal(target))
    missing = [key for key in ("message", "type", "param", "code") if key not in error]
    demand(not missing, f"the error object has no {', '.join(missing)}: {shown(error)}")
    demand(isinstance(error["type"], str), f"error.type is no string: {shown(error)}")
    for key in ("param", "code"):
        demand(
            isinstance(error[key], str | None), f"error.{key} is neither a string nor null: {shown(error)}"
        )


@case(
    "CHAT-ERROR-018",
    clause_id="error.names-parameter",
    reason="'bad request' does not help anybody to mend it",
)
def test_error_names_the_parameter(target: Target) -> None:
    """The refusal of a bad top_p mentions top_p."""
    exchange = target.post(target.body(HELLO, 4) | {"top_p": "wide"})
    if exchange.status == 200:
        raise Unjudged('the server takes `top_p`: "wide", so that there is no refusal to read')
    said = exchange.body.decode("utf-8", "replace")
    demand(
        "top_p" in said,
        f'the refusal of `top_p`: "wide" does not mention it: {exchange.status} {shown(said)}',
    )


@case(
    "CHAT-ERROR-019", clause_id="error.before-stream", reason="a client that reads the status believes a 200"
)
def test_refused_stream_is_no_stream(target: Target) -> None:
    """A bad request with stream: true gets an error status and a JSON body."""
    exchange = target.post(target.body(HELLO, 4, stream=True) | {"messages": "hello"})
    said = shown(exchange.body.decode("utf-8", "replace"))
    demand((exchange.status or 0) >= 400, f"a bad request with stream: true got {exchange.status}: {said}")
    kind = exchange.media_type
    demand(kind != "text/event-stream", f"the refusal of a stream ({exchange.status}) is labelled {kind}")
    error_object(exchange)


@case("CHAT-ERROR-020", clause_id="error.overlong", reason="a retried over-long prompt never gets shorter")
def test_overlong_prompt(target: Target) -> None:
    """A prompt longer than the context is refused with a 4xx that is not retried."""
    limit = _stated_context(target)
    if limit is None or limit > 40_000:
        raise Unjudged(f"/v1/models states no context length up to 40000 (it says {limit}): not tried")
    exchange = target.post(target.body("stone " * (limit + 100), 4))
    if exchange.status == 200:
        raise Unjudged(f"a prompt of more than {limit} tokens is answered: the server shortens it")
    status = exchange.status or 0
    said = shown(exchange.body.decode("utf-8", "replace"))
    demand(
        status < 500 and status not in RETRIED, f"a prompt of more than {limit} tokens got {status}: {said}"
    )


def _stated_context(target: Target) -> int | None:
    """The context length that /v1/models states, under any of the names in use."""
    try:
        cards = json.loads(target.get(MODELS).body)["data"]
        card = next(card for card in cards if card["id"] == target.model)
    except (ValueError, KeyError, TypeError, StopIteration):
        return None
    places = [card, card.get("meta") if isinstance(card.get("meta"), dict) else {}]
    for name in ("context_length", "max_model_len", "context_window", "n_ctx", "n_ctx_train"):
        for place in places:
            if isinstance(place.get(name), int):
                return int(place[name])
    return None


@case("CHAT-ERROR-021", clause_id="error.status-400", reason="400 and 422 both are in use")
def test_status_of_a_bad_value(target: Target) -> None:
    """The status with which a bad value is refused."""
    exchange = target.post(target.body(HELLO, 4) | {"messages": "hello"})
    raise Unjudged(f"`messages` of a wrong type gets {exchange.status}")
