"""Defects of keys, of limits, and of what one tenant does to another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from realm_mocks.server.errors import ApiError
from realm_mocks.server.replies import Reply
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.schedule import Schedule
from realm_mocks.server.variation import State, Variation

SPILL_SECONDS = 0.5
ONE_LINE_SLOTS = 4


def _forbidden(path: str, reply: Reply) -> Reply:
    return replace(reply, status=403) if reply.status == 401 else reply


def _plain_denial(path: str, reply: Reply) -> Reply:
    return replace(reply, body=b"Unauthorized\n", content_type="text/plain") if reply.status == 401 else reply


def _echoed(header: str | None, error: ApiError) -> ApiError:
    return replace(error, message=f"Wrong API key: {(header or 'none').rpartition(' ')[2]}")


def _exact_scheme(header: str | None, key: str) -> bool:
    return header == f"Bearer {key}"


def _without(reply: Reply, *names: str) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name not in names}


def _limit_as_503(path: str, reply: Reply) -> Reply:
    return replace(reply, status=503) if reply.status == 429 else reply


def _limit_as_text(path: str, reply: Reply) -> Reply:
    return replace(reply, body=b"slow down", content_type="text/plain") if reply.status == 429 else reply


def _limit_in_stream(path: str, reply: Reply) -> Reply:
    if reply.status != 429:
        return reply
    return replace(
        reply,
        status=200,
        body=b'data: {"error": {"message": "rate limit", "type": "requests"}}\n\n',
        content_type="text/event-stream",
    )


def _no_retry_after(path: str, reply: Reply) -> Reply:
    return (
        replace(reply, headers=_without(reply, "Retry-After", "Retry-After-Ms"))
        if reply.status == 429
        else reply
    )


def _hasty_retry_after(path: str, reply: Reply) -> Reply:
    headers = {**reply.headers, "Retry-After": "0", "Retry-After-Ms": "0"}
    return replace(reply, headers=headers) if reply.status == 429 else reply


def _stuck_remaining(path: str, reply: Reply) -> Reply:
    name = "x-ratelimit-remaining-requests"
    return replace(reply, headers={**reply.headers, name: "3"}) if name in reply.headers else reply


def _reset_as_time(path: str, reply: Reply) -> Reply:
    name = "x-ratelimit-reset-requests"
    if name not in reply.headers:
        return reply
    return replace(reply, headers={**reply.headers, name: str(int(time.time()) + 1)})


def _remember_limit(state: State, error: ApiError) -> None:
    if error.status == 429 and "limit-spills" not in error.message:
        state.notes["limit-spills"] = time.monotonic() + SPILL_SECONDS


def _refuse_all(chat: ChatRequest, state: State) -> ChatRequest:
    if time.monotonic() < state.notes.get("limit-spills", 0.0):
        raise ApiError(429, "limit-spills: everybody waits", headers={"Retry-After": "1"})
    return chat


@asynccontextmanager
async def _one_line(state: State) -> AsyncIterator[None]:
    line = state.notes.setdefault("one-line", asyncio.Semaphore(ONE_LINE_SLOTS))
    async with line:
        yield


DEFECTS = (
    Variation("auth-403", "a wrong key gets 403", "openai-python errors by status", reply=_forbidden),
    Variation("auth-plain-text", "a wrong key gets plain text", "realm-defects 22", reply=_plain_denial),
    Variation("auth-echoes-key", "a refusal repeats the key that was sent", "CWE-209", denied=_echoed),
    Variation(
        "auth-after-body", "the key is checked after the body", "realm-defects 20", key_after_body=True
    ),
    Variation(
        "auth-models-open",
        "the list of models needs no key",
        "realm-defects 20",
        unlocked=frozenset({"/v1/models"}),
    ),
    Variation(
        "auth-scheme-case",
        "`bearer` is refused",
        "RFC 9110, 11.1: case-insensitive",
        authorized=_exact_scheme,
    ),
    Variation("limit-503", "past a limit the status is 503", "realm-defects 21", reply=_limit_as_503),
    Variation("limit-plain-text", "past a limit the body is text", "realm-defects 22", reply=_limit_as_text),
    Variation(
        "limit-in-stream", "past a limit a 200 carries the error", "realm-defects 21", reply=_limit_in_stream
    ),
    Variation("limit-no-retry-after", "no Retry-After", "realm-defects 21", reply=_no_retry_after),
    Variation(
        "limit-hasty-retry-after",
        "Retry-After is 0 while the next request is refused too",
        "openai-python sleeps for so long",
        reply=_hasty_retry_after,
    ),
    Variation(
        "limit-remaining-stuck",
        "x-ratelimit-remaining never moves",
        "OpenAI's headers",
        reply=_stuck_remaining,
    ),
    Variation(
        "limit-reset-time",
        "x-ratelimit-reset is a time of day",
        "OpenAI's headers: a duration",
        reply=_reset_as_time,
    ),
    Variation(
        "limit-spills",
        "after one tenant's refusal everybody is refused",
        "a limit that is counted in one place for all",
        on_error=_remember_limit,
        request=_refuse_all,
    ),
    Variation(
        "one-line-for-all",
        "a flood of one tenant's goes before what others ask later",
        "realm-defects 27",
        schedule=Schedule(ttft=0.01, itl=0.02),
        gate=_one_line,
    ),
)
