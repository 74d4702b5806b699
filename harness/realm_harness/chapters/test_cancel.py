"""Clients that leave: the server goes on serving, and stops working for nobody."""

from __future__ import annotations

import re

from realm_harness.answers import shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.prompts import HELLO, LONG_ANSWERS, STORY
from realm_harness.target import CHAT, Target, clock_ms, encode, wait_until

SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*(?:\{[^}]*\})?)\s+([0-9.eE+-]+)\s*$", re.MULTILINE)
RUNNING = re.compile(r"running|in_?flight|processing|active|current", re.IGNORECASE)


def leave_in_the_middle(target: Target) -> None:
    """Start a long stream and close the connection after its first text."""
    with target.open_stream(STORY, 96) as live:
        live.first_content()
        live.leave()


def check_serving(target: Target, times: int = 1) -> None:
    """Broken unless whole answers and streams come as ever."""
    for _ in range(times):
        answer = target.ask(HELLO, 8)
        demand(answer.finish() is not None, f"the next answer is incomplete: {shown(answer.data)}")
    stream = target.stream(HELLO, 8)
    demand(
        stream.finish() is not None,
        f"the next stream has no finish reason; it ended: {stream.exchange.ending}",
    )


@case(
    "CHAT-CANCEL-001", clause_id="cancel.serves-on", reason="a closed tab has aborted the next user's request"
)
def test_serves_on_after_a_client_left(target: Target) -> None:
    """After a client left in the middle of a stream, the next requests are answered."""
    leave_in_the_middle(target)
    check_serving(target)


@case("CHAT-CANCEL-002", clause_id="cancel.before-reply", reason="users leave while they wait, too")
def test_serves_on_after_clients_left_early(target: Target) -> None:
    """After clients left before any reply, requests are answered."""
    request = target.request("POST", CHAT, encode(target.body(STORY, 64)))
    for _ in range(3):
        with target.connect() as connection:
            connection.call(request).leave()
    check_serving(target)


@case(
    "CHAT-CANCEL-003",
    clause_id="cancel.stops-work",
    reason="work for nobody takes the place of work for users",
)
def test_work_stops(target: Target) -> None:
    """The gauge of running requests goes down before the abandoned answer could have been finished."""
    if not gauges(target):
        raise Unjudged("/metrics shows no gauge of running requests")
    prompt, tokens = longest(target)
    before = gauges(target)  # only now: by now what earlier clients left behind is over, stopped or not
    with target.open_stream(prompt, tokens, temperature=0) as live:
        contents = live.contents()
        start = next(contents, (0, ""))[0]
        last = start
        for _ in range(3):
            last = next(contents, (last, ""))[0]
        during = gauges(target)
        rose = [name for name, value in during.items() if value > before.get(name, 0)]
        live.leave()
    remaining = clock_ms(last, start) / 3e3 * (tokens - 4)
    if not rose or remaining < 0.4:
        raise Unjudged(f"no gauge rose, or the answer was too short to tell ({remaining:.1f} s left)")
    if not wait_until(lambda: all(gauges(target).get(n, 0) <= before.get(n, 0) for n in rose), remaining / 2):
        # Some servers renew their gauges only when they work: give this one something to do.
        target.ask(HELLO, 1)
        down = all(gauges(target).get(name, 0) <= before.get(name, 0) for name in rose)
        demand(
            down, f"{rose[0]} still counts the abandoned request {remaining / 2:.1f} s after the client left"
        )


def longest(target: Target) -> tuple[str, int]:
    """A question with a long answer, and that answer's number of tokens."""
    lengths = {}
    for prompt in LONG_ANSWERS:
        told = target.ask(prompt, 96, temperature=0).usage.get("completion_tokens")
        lengths[prompt] = told if isinstance(told, int) else 0
        if lengths[prompt] >= 64:
            break
    prompt = max(lengths, key=lambda name: lengths[name])
    if lengths[prompt] < 16:
        raise Unjudged("no answer is long enough to leave in its middle")
    return prompt, lengths[prompt]


def gauges(target: Target) -> dict[str, float]:
    """The gauges of /metrics whose names sound like running requests, by name and labels."""
    exchange = target.get("/metrics")
    if exchange.status != 200:
        return {}
    text = exchange.body.decode("utf-8", "replace")
    kinds = set(re.findall(r"^# TYPE (\S+) gauge\s*$", text, re.MULTILINE))
    return {
        name: float(value)
        for name, value in SAMPLE.findall(text)
        if name.partition("{")[0] in kinds and RUNNING.search(name)
    }


@case(
    "CHAT-CANCEL-004",
    clause_id="cancel.many",
    reason="a slot lost with each closed tab is a server lost by noon",
)
def test_serves_on_after_many_clients_left(target: Target) -> None:
    """After eight clients left in the middle of streams, requests are answered."""
    for _ in range(8):
        leave_in_the_middle(target)
    check_serving(target, times=2)
