"""What the page of metrics says is what happened: requests, errors, tokens, latencies."""

from __future__ import annotations

import math
from collections.abc import Callable
from secrets import token_hex
from time import perf_counter

from realm_harness.answers import shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.metricspage import METRICS, Page, Series, named, scrape
from realm_harness.prompts import COUNT, HELLO, STORY
from realm_harness.target import Target, clock_ms, wait_until

SUCCESSES = ("realm_requests_success_total", "vllm:request_success_total", "tgi_request_success_total")
INPUTS = ("realm_usage_input_tokens_total", "vllm:prompt_tokens_total", "sglang:prompt_tokens_total")
OUTPUTS = (
    "realm_usage_output_tokens_total",
    "vllm:generation_tokens_total",
    "sglang:generation_tokens_total",
)
FIRST_TOKENS = (
    "realm_time_to_first_token_seconds",
    "vllm:time_to_first_token_seconds",
    "sglang:time_to_first_token_seconds",
)
DURATIONS = (
    "realm_request_duration_seconds",
    "vllm:e2e_request_latency_seconds",
    "sglang:e2e_request_latency_seconds",
)
RUNNING = (
    "realm_requests_running",
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "llamacpp:requests_processing",
)
ERRORS = "realm_requests_errors_total"
ERROR_TYPES = {
    "rate_limit", "timeout", "validation_error", "authentication_error", "authorization_error", "not_found",
    "internal_error", "service_unavailable", "out_of_memory", "model_unavailable", "other",
}  # fmt: skip
SETTLED_SECONDS = 2.0
"""How long a server may take to count a request whose answer has been read."""


def known(page: Page, names: tuple[str, ...], suffix: str = "") -> str:
    """The server's name for something; Unjudged when it has none of those that are known."""
    found = page.first([name + suffix for name in names])
    if found is None:
        raise Unjudged(f"{METRICS} has none of {', '.join(names)}")
    return found


def risen(target: Target, before: Page, name: str, enough: Callable[[float], bool]) -> float:
    """By how much a count rose since `before`, once that is enough, or after a while."""
    rise = math.nan

    def looked() -> bool:
        nonlocal rise
        rise = (scrape(target).total(name) or 0) - (before.total(name) or 0)
        return enough(rise)

    wait_until(looked, SETTLED_SECONDS)
    return rise


@case(
    "CHAT-METRICS-008",
    clause_id="metrics.successes",
    reason="an error rate needs the number of requests",
    confirm=True,
)
def test_requests_are_counted(target: Target) -> None:
    """Three answered requests, one of them streamed, raise the count of answered requests by three."""
    name = known(scrape(target), SUCCESSES)
    before = scrape(target)
    target.ask(HELLO, 4)
    target.ask(HELLO, 4)
    target.raw_stream(HELLO, 4)
    rise = risen(target, before, name, lambda rise: rise >= 3)
    demand(rise >= 3, f"{name} rose by {rise:g} with three answered requests")


@case("CHAT-METRICS-009", clause_id="metrics.errors", reason="an alarm asks for one kind of error")
def test_errors_are_counted_by_kind(target: Target) -> None:
    """A request that is refused for its value is counted as a validation error; all kinds are of the list."""
    before = scrape(target)
    if before.total("realm_requests_total") is None:
        raise Unjudged(f"{METRICS} has no realm_requests_total: the names are another server's")
    refused = target.post(target.body(HELLO, 4, temperature=-5))
    if refused.status not in (400, 422):
        raise Unjudged(f"temperature -5 got {refused.status}: see CHAT-ERROR-007")
    series: Series = (ERRORS, frozenset({("error_type", "validation_error")}))

    def counted() -> float:
        return scrape(target).values.get(series, 0) - before.values.get(series, 0)

    wait_until(lambda: counted() >= 1, SETTLED_SECONDS)
    demand(counted() >= 1, f"{named(series)} did not rise with a refused request")
    kinds = {dict(labels).get("error_type", "") for name, labels in scrape(target).values if name == ERRORS}
    demand(kinds <= ERROR_TYPES, f"error_type has values of no list: {shown(sorted(kinds - ERROR_TYPES))}")


@case(
    "CHAT-METRICS-010", clause_id="metrics.input-tokens", reason="capacity is planned by them", confirm=True
)
def test_prompt_tokens_are_counted(target: Target) -> None:
    """The counter of prompt tokens rises by exactly what usage says."""
    _compare_with_usage(target, INPUTS, "prompt_tokens")


@case(
    "CHAT-METRICS-011", clause_id="metrics.output-tokens", reason="capacity is planned by them", confirm=True
)
def test_completion_tokens_are_counted(target: Target) -> None:
    """The counter of generated tokens rises by exactly what usage says."""
    _compare_with_usage(target, OUTPUTS, "completion_tokens")


@case(
    "CHAT-METRICS-017", clause_id="metrics.requests", reason="a rate of errors is a part of all", confirm=True
)
def test_all_requests_are_counted(target: Target) -> None:
    """realm_requests_total rises by at least as much as the answered and the failed requests together."""
    names = ("realm_requests_total", SUCCESSES[0], ERRORS)
    before = scrape(target)
    known(before, names[:1])
    target.ask(HELLO, 4)
    target.raw_stream(HELLO, 4)
    target.post(target.body(HELLO, 4, temperature=-5))
    parts = risen(target, before, names[1], lambda rise: rise >= 2)
    page = scrape(target)
    total, answered, failed = ((page.total(name) or 0) - (before.total(name) or 0) for name in names)
    demand(parts >= 2, f"{names[1]} rose by {parts:g} with two answered requests")
    said = f"{names[0]} rose by {total:g}, answered requests by {answered:g}, failed ones by {failed:g}"
    demand(total >= answered + failed, said)


@case("CHAT-METRICS-018", clause_id="metrics.generated", reason="capacity is planned by them", confirm=True)
def test_generated_tokens_are_counted(target: Target) -> None:
    """realm_tokens_generated_total rises by exactly what usage says."""
    _compare_with_usage(target, ("realm_tokens_generated_total",), "completion_tokens")


def _compare_with_usage(target: Target, names: tuple[str, ...], count: str) -> None:
    page = scrape(target)
    name = page.first(names)
    if name is None:
        target.ask(HELLO, 4)  # some counters appear with the first request
        page = scrape(target)
        name = known(page, names)
    answers = [target.ask(f"{prompt} ({token_hex(4)})", 9, temperature=0) for prompt in (HELLO, COUNT)]
    if not all(answer.usage for answer in answers):
        raise Unjudged("the server sends no usage, with which the counter could be compared")
    said = sum(answer.count(count) for answer in answers)
    rise = risen(target, page, name, lambda rise: rise >= said)
    demand(rise == said, f"{name} rose by {rise:g}; usage has {said} {count}")


@case(
    "CHAT-METRICS-012",
    clause_id="metrics.first-token",
    reason="a latency that is the whole answer's hides every stall",
    confirm=True,
)
def test_first_token_histogram(target: Target) -> None:
    """Each stream is in the histogram of first tokens, with no more time than its client saw."""
    page = scrape(target)
    name = known(page, FIRST_TOKENS, "_count").removesuffix("_count")
    seen_ms = 0.0
    for _ in range(3):
        with target.open_stream(STORY, 24) as live:
            seen_ms += clock_ms(live.first_content(), live.exchange.sent_ns)
            live.read()
    rise = risen(target, page, f"{name}_count", lambda rise: rise >= 3)
    demand(rise >= 3, f"{name}_count rose by {rise:g} with three streams")
    booked_ms = 1e3 * risen(target, page, f"{name}_sum", lambda _: True)
    demand(
        booked_ms <= seen_ms + 1,
        f"{name}_sum rose by {booked_ms:.1f} ms with three streams whose clients waited {seen_ms:.1f} ms",
    )


@case("CHAT-METRICS-013", clause_id="metrics.duration", reason="an average needs all that it is over")
def test_duration_histogram(target: Target) -> None:
    """Each answered request is in the histogram of durations."""
    page = scrape(target)
    name = known(page, DURATIONS, "_count")
    target.ask(HELLO, 4)
    target.raw_stream(HELLO, 4)
    rise = risen(target, page, name, lambda rise: rise >= 2)
    demand(rise >= 2, f"{name} rose by {rise:g} with two answered requests")


@case(
    "CHAT-METRICS-019",
    clause_id="metrics.duration-sum",
    reason="an average is the sum by the count",
    confirm=True,
)
def test_durations_add_up(target: Target) -> None:
    """Requests one after the other add no more to the sum of durations than the time that they took."""
    begun = perf_counter()
    page = scrape(target)
    name = known(page, DURATIONS, "_sum")
    target.ask(HELLO, 8)
    target.raw_stream(HELLO, 8)
    booked = risen(target, page, name, lambda rise: rise > 0)
    took = perf_counter() - begun
    demand(booked > 0, f"{name} did not rise with two answered requests")
    demand(booked <= took, f"{name} rose by {booked:.3f} s with requests that took {took:.3f} s in all")


@case(
    "CHAT-METRICS-015",
    clause_id="metrics.running",
    reason="autoscalers go by it",
    confirm=True,
)
def test_running_gauge(target: Target) -> None:
    """The gauge of running requests counts a stream while it runs, and not after."""
    name = known(scrape(target), RUNNING)
    with target.open_stream(STORY, 64) as live:
        start = live.first_content()
        during = scrape(target).total(name) or 0
        lasted = clock_ms(live.read().exchange.ended_ns, start)
    if lasted < 150:
        raise Unjudged(f"the longest answer lasts {lasted:.0f} ms, too short to look at it while it runs")
    demand(during >= 1, f"{name} is {during:g} while a stream runs")
    down = wait_until(lambda: (scrape(target).total(name) or 0) < during, SETTLED_SECONDS)
    demand(down, f"{name} is still {during:g} after the stream has ended")
