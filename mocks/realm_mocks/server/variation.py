"""The doors through which a planted defect or an innocent habit enters the healthy server.

The server itself knows no defect. It passes its data through these hooks, each of which does nothing unless a
variation fills it, so that one defect is one small function and reading the server needs no catalogue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from realm_mocks.server.completions import Texts
from realm_mocks.server.errors import ApiError
from realm_mocks.server.generation import Generation
from realm_mocks.server.metrics import Family
from realm_mocks.server.replies import Event, Reply
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.schedule import Schedule
from realm_mocks.server.websocket import Session


@dataclass
class State:
    """What a server remembers between requests, beside its records.

    Attributes:
        slots: how many answers may be generated at a time.
        everything: a lock that the healthy server never takes.
        in_flight: chat requests being answered now.
        live: tasks that are sending a stream now.
        notes: free for variations, which own their keys.
    """

    slots: asyncio.Semaphore
    everything: asyncio.Lock = field(default_factory=asyncio.Lock)
    in_flight: int = 0
    live: set[asyncio.Task[Any]] = field(default_factory=set)
    notes: dict[str, Any] = field(default_factory=dict)


Gate = Callable[[State], AbstractAsyncContextManager[Any]]


@dataclass(frozen=True)
class Variation:
    """One way in which the server differs from the healthy one; a defect or an innocent habit.

    Attributes:
        id: a short slug.
        sentence: what is different, for a reader of the score.
        source: where such a thing was seen: an issue thread or a number in the project's list of defects.
        schedule: the latency that the difference needs to be seen at all.
        unchecked: parameters that are taken without a check.
        body: bends the raw request body.
        request: bends the checked request; may raise ApiError.
        generation: bends one choice.
        pieces: the text that each token lets go when streaming.
        whole: bends the JSON object of a whole answer.
        events: bends the plan of a stream.
        texts: bends the whole answer of /v1/completions.
        text_chunks: bends the chunks of its stream.
        metrics: bends the families of the page of metrics.
        reply: bends any whole reply; gets the request's path.
        authorized: replaces the check of an Authorization header: (header, key) -> allowed.
        denied: bends the refusal of a key; gets the Authorization header.
        key_after_body: the key is checked when the body has been.
        unlocked: paths that need no key.
        every_adapter: another tenant's adapters are served too.
        on_error: runs when a request was refused.
        on_disconnect: runs when a client went away; gets the seconds that the answer would still have taken.
        incoming: bends the bytes that a connection brings, before HTTP is read in them.
        unparsed: bends the reply to what is no request; gets what the parser said.
        answers_in_1_0: what is no request is answered with the status line of HTTP/1.0.
        workers: connections that are served at a time; the others wait until one of them has gone.
        workers_lost: a connection that goes in the middle of a request keeps its worker.
        gate: what a request of any route holds while it is served.
        prefill: seconds before a chat request is answered; gets its Authorization header.
        session: serves the WebSocket's clients.
    """

    id: str
    sentence: str
    source: str
    schedule: Schedule | None = None
    unchecked: frozenset[str] = frozenset()
    body: Callable[[bytes], bytes] | None = None
    request: Callable[[ChatRequest, State], ChatRequest] | None = None
    generation: Callable[[ChatRequest, Generation, State], Generation] | None = None
    pieces: Callable[[ChatRequest, Generation], list[str]] | None = None
    whole: Callable[[ChatRequest, dict[str, Any]], dict[str, Any]] | None = None
    events: Callable[[ChatRequest, list[Event]], list[Event]] | None = None
    texts: Callable[[Texts, dict[str, Any]], dict[str, Any]] | None = None
    text_chunks: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
    metrics: Callable[[list[Family], State], list[Family]] | None = None
    reply: Callable[[str, Reply], Reply] | None = None
    authorized: Callable[[str | None, str], bool] | None = None
    denied: Callable[[str | None, ApiError], ApiError] | None = None
    key_after_body: bool = False
    unlocked: frozenset[str] = frozenset()
    every_adapter: bool = False
    on_error: Callable[[State, ApiError], None] | None = None
    on_disconnect: Callable[[State, float], Awaitable[None]] | None = None
    incoming: Callable[[bytes], bytes] | None = None
    unparsed: Callable[[ApiError, BaseException], ApiError] | None = None
    answers_in_1_0: bool = False
    workers: int | None = None
    workers_lost: bool = False
    gate: Gate | None = None
    prefill: Callable[[ChatRequest, str, State], float] | None = None
    session: type[Session] | None = None


def bearer(header: str | None, key: str) -> bool:
    """The healthy check of an Authorization header (RFC 6750: the scheme's case does not matter)."""
    scheme, _, token = (header or "").partition(" ")
    return scheme.lower() == "bearer" and token.strip() == key
