"""Tenants beside each other. They need a second tenant's key (--other-key), and one with small limits
(--limited-key); without them nothing is judged.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from realm_harness.answers import shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.chapters.test_concurrency import LEAST_MS, check_code_words
from realm_harness.chapters.test_errors import error_object
from realm_harness.exchange import Exchange
from realm_harness.prompts import HELLO, STORY, about_code_word, code_word
from realm_harness.target import Target, clock_ms, replied

FLOOD: Final = 16
FLOOD_TOKENS: Final = 24
MOST_REQUESTS: Final = 40
"""So many requests in a row have to run into a limit that is worth the name."""

LONGEST_WAIT: Final = 10
"""Seconds that a case waits for a limit to let it in again."""

DURATION: Final = re.compile(r"(?=.)(\d+h)?(\d+m(?!s))?(\d+(\.\d+)?s)?(\d+(\.\d+)?ms)?")
"""As OpenAI writes what is left until a limit is whole again: 120ms, 1s, 6m0s."""


def other(target: Target) -> Target:
    """The server as another tenant sees it; Unjudged without a key."""
    if target.other_key is None:
        raise Unjudged("no key of a second tenant was given: --other-key")
    return replace(target, api_key=target.other_key)


def limited_post(target: Target, *, stream: bool = False) -> Exchange:
    """A small request of the tenant with small limits; Unjudged without its key."""
    if target.limited_key is None:
        raise Unjudged("no key of a tenant with small limits was given: --limited-key")
    return target.post(target.body(HELLO, 1, stream=stream), key=f"Bearer {target.limited_key}")


def run_into_limit(target: Target, *, stream: bool = False) -> Exchange:
    """Ask until it is not answered: the refusal. Unjudged when all is answered."""
    for _ in range(MOST_REQUESTS):
        exchange = limited_post(target, stream=stream)
        if exchange.status != 200 or b'"error"' in exchange.body[:100]:
            return exchange
    raise Unjudged(f"{MOST_REQUESTS} requests in a row with --limited-key were answered: its limit is larger")


@case(
    "CHAT-TENANT-001",
    clause_id="tenant.own-answer",
    reason="one customer's words have reached another's answer",
)
def test_tenants_answers_do_not_mix(target: Target) -> None:
    """Two tenants ask at the same time, each with code words: no answer has another's."""
    words = [code_word(200 + number) for number in range(6)]
    tenants = [other(target), target] * 3

    def task(tenant: Target, word: str) -> Callable[[], str]:
        return lambda: tenant.ask(about_code_word(word), 24, temperature=0).text()

    check_code_words(words, target.together(list(map(task, tenants, words))))


@case(
    "CHAT-TENANT-002",
    clause_id="tenant.flood",
    reason="one customer's batch job makes the others' chats hang",
)
def test_a_flood_goes_not_before_others(target: Target) -> None:
    """A request among another tenant's sixteen streams gets a token before most of them have ended."""
    tenant, sent = other(target), threading.Semaphore(0)

    def flood() -> tuple[int, int]:
        try:
            live = stack.enter_context(tenant.open_stream(STORY, FLOOD_TOKENS))
        finally:
            sent.release()  # also if it cannot be sent: nobody waits for what never comes
        return live.first_content(), live.read().exchange.ended_ns

    def mine() -> tuple[int, int]:
        for _ in range(FLOOD):
            sent.acquire()
        with target.open_stream(HELLO, 2) as live:
            return live.exchange.sent_ns, live.first_content()

    with ExitStack() as stack, ThreadPoolExecutor(FLOOD) as pool:
        floods = [pool.submit(flood) for _ in range(FLOOD)]
        sent_ns, first_ns = mine()
    times = [future.result() for future in floods]
    if min(clock_ms(end_ns, begin_ns) for begin_ns, end_ns in times) < LEAST_MS:
        raise Unjudged("streams are over too quickly for a request to come beside them")
    there = sum(end_ns > sent_ns for _, end_ns in times)
    if there < FLOOD:
        raise Unjudged(f"only {there} of {FLOOD} streams were on their way when another request came")
    before = sum(end_ns < first_ns for _, end_ns in times)
    demand(
        before <= FLOOD // 2,
        f"{before} of {FLOOD} streams of another tenant ended before the first token of a request"
        " that came when they had just begun",
    )


@case("CHAT-LIMIT-001", clause_id="limit.status-429", reason="clients wait and try again only after a 429")
def test_limit_is_429(target: Target) -> None:
    """A request past its tenant's limit gets 429."""
    status = run_into_limit(target).status
    demand(status == 429, f"past its limit a request gets {status}")


@case("CHAT-LIMIT-002", clause_id="limit.error-object", reason="clients show error.message to people")
def test_limit_has_an_error_object(target: Target) -> None:
    """The refusal has an error object with a message."""
    error = error_object(run_into_limit(target))
    message = error.get("message")
    demand(isinstance(message, str) and message, f"the error of a limit has no message: {shown(error)}")


@case("CHAT-LIMIT-003", clause_id="limit.before-stream", reason="a 200 is counted as served and not retried")
def test_limit_comes_before_the_stream(target: Target) -> None:
    """A streamed request past its limit is refused by status, not by an event after a 200."""
    exchange = run_into_limit(target, stream=True)
    demand(
        exchange.status != 200,
        f"past its limit a streamed request gets 200 and then {shown(exchange.body[:200].decode())}",
    )


@case("CHAT-LIMIT-004", clause_id="limit.retry-after", reason="without it clients guess how long to wait")
def test_limit_says_when_to_come_again(target: Target) -> None:
    """The refusal has a Retry-After in whole seconds, and after so long a request is let in.

    openai-python goes by Retry-After-Ms where that is sent too, and so does this.
    """
    refusal = run_into_limit(target)
    wait, milliseconds = refusal.header("retry-after"), refusal.header("retry-after-ms")
    demand(wait is not None, "past its limit a request gets no Retry-After")
    demand(re.fullmatch(r"\d+", wait or ""), f"Retry-After is {shown(wait)}, which is no number of seconds")
    if int(wait or 0) > LONGEST_WAIT:
        raise Unjudged(f"Retry-After is {wait} s: not waited for")
    if milliseconds is not None:
        demand(re.fullmatch(r"\d+", milliseconds), f"Retry-After-Ms is {shown(milliseconds)}")
    seconds = int(wait or 0) if milliseconds is None else int(milliseconds) / 1000
    time.sleep(seconds)
    status = limited_post(target).status
    demand(status == 200, f"after the {seconds:g} s of Retry-After the next request gets {status}")


@case("CHAT-LIMIT-005", clause_id="limit.remaining", reason="clients pace themselves by these headers")
def test_remaining_goes_down(target: Target) -> None:
    """Where answers tell what remains of a limit, it goes down to nothing as requests come in."""
    seen: list[int] = []
    for _ in range(MOST_REQUESTS):
        exchange = limited_post(target)
        remaining = exchange.header("x-ratelimit-remaining-requests")
        if remaining is None:
            raise Unjudged("the server sends no x-ratelimit-remaining-requests")
        demand(re.fullmatch(r"\d+", remaining), f"x-ratelimit-remaining-requests is {shown(remaining)}")
        seen.append(int(remaining))
        if exchange.status != 200:
            break
    else:
        raise Unjudged(f"{MOST_REQUESTS} requests in a row with --limited-key were answered")
    demand(seen[-1] == 0, f"a request is refused while {seen[-1]} remain (seen: {seen})")


@case("CHAT-LIMIT-006", clause_id="limit.reset", reason="clients read these headers as durations")
def test_reset_is_a_duration(target: Target) -> None:
    """Where answers tell when a limit is whole again, it is a duration such as 120ms, 1s or 6m0s."""
    exchange = limited_post(target)
    resets = [(name, value) for name, value in exchange.headers if name.startswith("x-ratelimit-reset-")]
    if not resets:
        raise Unjudged("the server sends no x-ratelimit-reset-*")
    for name, value in resets:
        demand(DURATION.fullmatch(value), f"{name} is {shown(value)}")


@case("CHAT-LIMIT-007", clause_id="limit.own", reason="one customer's limit must not stop another")
def test_limit_is_its_tenants_own(target: Target) -> None:
    """While one tenant is refused for its limit, another is answered."""
    run_into_limit(target)
    exchange = replied(target.post(target.body(HELLO, 1)))
    demand(
        exchange.status == 200,
        f"after another tenant ran into its limit a request gets {exchange.status}:"
        f" {shown(json.dumps(exchange.body.decode('utf-8', 'replace')))}",
    )
