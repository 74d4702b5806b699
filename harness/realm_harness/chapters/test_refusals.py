"""Refusals of every kind: the same error object, about the parameter at fault, and nothing of the inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from realm_harness.answers import shown
from realm_harness.case import case, demand
from realm_harness.chapters.test_errors import error_object
from realm_harness.exchange import Exchange
from realm_harness.hostile import head, length, question
from realm_harness.prompts import HELLO
from realm_harness.target import CHAT, Target

BAD = {"temperature": 9, "top_p": 7, "n": 0, "max_tokens": -1, "presence_penalty": 5}
INSIDE = ("Traceback (most recent call last)", 'File "/', "goroutine ", "panicked at", "\tat ")


def refusals(target: Target) -> Mapping[str, Exchange]:
    """A refusal of each kind by what was wrong; what was answered all the same is not among them."""
    body = question(target)
    hasty = replace(target, timeouts=replace(target.timeouts, silence=min(5.0, target.timeouts.silence)))
    made = {
        "no JSON": target.post(b'{"model": '),
        "a bad value": target.post(target.body(HELLO, 2) | {"temperature": 9}),
        "an unknown model": target.post(target.body(HELLO, 2) | {"model": "realm-no-such-model"}),
        "an unknown route": target.get("/v1/realm-no-such-route"),
        "a wrong method": target.get(CHAT),
        "no messages": target.post({"model": target.model}),
        "an unknown encoding": target.send_bytes(
            head(target, length(body), b"Content-Encoding: realm") + body
        ),
        "a body of a terabyte": hasty.send_bytes(head(target, b"Content-Length: 1000000000000")),
    }
    if target.api_key:
        made["a wrong key"] = target.post(target.body(HELLO, 2), key="Bearer realm-no-such-key")
    return {name: exchange for name, exchange in made.items() if (exchange.status or 0) >= 400}


@case("CHAT-REFUSAL-001", clause_id="refusal.object", reason="one handler of errors is what a client has")
def test_every_refusal_is_the_same_object(target: Target) -> None:
    """Refusals of every kind bring the error object, labelled as JSON."""
    for name, exchange in refusals(target).items():
        kind = exchange.media_type
        demand(kind == "application/json", f"{name}: the refusal ({exchange.status}) is labelled {kind}")
        error = error_object(exchange)
        wrong = [key for key in ("message", "type") if not isinstance(error.get(key), str)]
        demand(not wrong, f"{name}: the refusal has no string {', '.join(wrong)}: {shown(error)}")


@case("CHAT-REFUSAL-002", clause_id="refusal.param", reason="a form marks the field that it names")
def test_param_is_the_one_at_fault(target: Target) -> None:
    """error.param is the parameter at fault, or null."""
    for name, value in BAD.items():
        exchange = target.post(target.body(HELLO) | {name: value})
        if exchange.status in (400, 422):
            told = error_object(exchange).get("param")
            demand(told in (None, name), f"`{name}`: {value} is refused with error.param {shown(told)}")


@case("CHAT-REFUSAL-003", clause_id="refusal.inside", reason="paths and versions are for attackers")
def test_nothing_of_the_inside(target: Target) -> None:
    """No refusal shows a stack."""
    for name, exchange in refusals(target).items():
        said = exchange.body.decode("utf-8", "replace").replace("\\n", "\n").replace('\\"', '"')
        found = [mark for mark in INSIDE if mark in said]
        demand(not found, f"{name}: the refusal shows a stack ({found}): {shown(said)}")
