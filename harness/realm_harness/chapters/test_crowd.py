"""A crowd of connections that want nothing, or never say what: the others are served all the same."""

from __future__ import annotations

from realm_harness.case import case, demand
from realm_harness.hostile import Crowd, head, length, question
from realm_harness.prompts import HELLO
from realm_harness.target import Target

CROWD = 48
"""More than the threads that a server of one thread a connection has; few enough for anybody's server."""


def served_beside(target: Target, raw: bytes, what: str) -> None:
    """Broken unless a chat request is answered while a crowd has sent only `raw`."""
    with Crowd(target, CROWD, raw):
        answer = target.ask(HELLO, 4)
    demand(answer.choices, f"beside {CROWD} connections {what}, an answer has no choices")


@case("CHAT-CROWD-001", clause_id="crowd.idle", reason="browsers open connections before they need them")
def test_idle_connections(target: Target) -> None:
    """A request is answered beside 48 connections that say nothing."""
    served_beside(target, b"", "that say nothing")


@case("CHAT-CROWD-002", clause_id="crowd.half-heads", reason="one such client used to stop whole web servers")
def test_half_heads(target: Target) -> None:
    """A request is answered beside 48 connections that have sent half a head."""
    served_beside(target, head(target)[:-2], "that have sent half a head")


@case(
    "CHAT-CROWD-003",
    clause_id="crowd.half-bodies",
    reason="phones lose their network in the middle of a request",
)
def test_half_bodies(target: Target) -> None:
    """A request is answered beside 48 connections that have sent half a body."""
    body = question(target)
    served_beside(target, head(target, length(body)) + body[:-9], "that have sent half a body")


@case(
    "CHAT-CROWD-004", clause_id="crowd.leaves", reason="places that are never given back are all gone by noon"
)
def test_the_crowd_has_left(target: Target) -> None:
    """After 96 connections were closed in the middle of a request, requests are answered."""
    body = question(target)
    for raw in (head(target)[:-2], head(target, length(body)) + body[:-9]):
        with Crowd(target, CROWD, raw):
            pass
    for _ in range(2):
        demand(target.ask(HELLO, 4).choices, "after the crowd has left, an answer has no choices")
