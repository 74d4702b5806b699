"""Requests beside each other: answers do not mix, errors disturb nobody, streams make progress together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from realm_harness.answers import Stream, shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.exchange import Ending
from realm_harness.prompts import HELLO, LONG_ANSWERS, STORY, about_code_word, code_word
from realm_harness.target import CHAT, MODELS, Target, clock_ms, encode

NEIGHBOURS = 6
LEAST_MS = 150.0
"""A stream with less time left cannot be overlapped with another request for sure."""


def check_code_words(words: list[str], texts: list[str]) -> None:
    """Broken when an answer has another's code word; Unjudged when none has even its own."""
    for own, text in zip(words, texts, strict=True):
        foreign = [word for word in words if word != own and word in text]
        demand(not foreign, f"the answer to a question about {own} says {', '.join(foreign)}: {shown(text)}")
    if not any(word in text for word, text in zip(words, texts, strict=True)):
        raise Unjudged("no answer repeats its own code word, so that a leak could not be seen either")


@case(
    "CHAT-CONC-001",
    clause_id="concurrency.own-answer",
    reason="one customer's words have reached another's answer",
)
def test_answers_do_not_mix(target: Target) -> None:
    """Six requests at the same time, each with its own code word: no answer has another's."""
    words = [code_word(number) for number in range(NEIGHBOURS)]

    def task(word: str) -> Callable[[], str]:
        return lambda: target.ask(about_code_word(word), 24, temperature=0).text()

    check_code_words(words, target.together([task(word) for word in words]))


@case(
    "CHAT-CONC-002",
    clause_id="concurrency.own-answer",
    reason="the cache of one request must not speak in the next",
)
def test_answers_do_not_remember(target: Target) -> None:
    """Four requests one after the other, each with its own code word: no answer has an earlier one's."""
    words = [code_word(100 + number) for number in range(4)]
    check_code_words(words, [target.ask(about_code_word(word), 24, temperature=0).text() for word in words])


@case(
    "CHAT-CONC-003",
    clause_id="concurrency.greedy-alone",
    reason="an answer that depends on its neighbours cannot be tested",
    confirm=True,
)
def test_greedy_answers_ignore_neighbours(target: Target) -> None:
    """At temperature 0 an answer is the same alone and beside others, whole or streamed."""
    alone = {prompt: target.settled(prompt, 16) for prompt in LONG_ANSWERS}

    def task(prompt: str) -> Callable[[], str]:
        return lambda: target.ask(prompt, 16, temperature=0).text()

    def streamed(prompt: str) -> Callable[[], str]:
        return lambda: target.stream(prompt, 16, temperature=0).text()

    together = target.together([make(prompt) for make in (task, streamed) for prompt in alone])
    for prompt, text in zip([*alone, *alone], together, strict=True):
        demand(
            text == alone[prompt], f"alone the answer is {shown(alone[prompt])}, beside others {shown(text)}"
        )


@case(
    "CHAT-CONC-004",
    clause_id="concurrency.refusal-harmless",
    reason="one bad request has ended everybody's streams",
)
def test_refusals_disturb_no_stream(target: Target) -> None:
    """A stream runs to its end while bad requests are refused beside it."""
    with target.open_stream(STORY, 48) as live:
        live.first_content()
        bad = (b"{", target.body("x", 4) | {"messages": "x"}, b"{")
        statuses = [target.post(body).status or 0 for body in bad]
        stream = live.read()
    target.last = live.exchange
    if min(statuses) < 400:
        raise Unjudged(f"bad requests were not refused but got {statuses}: see CHAT-ERROR-001 and 003")
    check_finished(stream, f"requests that were refused with {statuses}")


def check_finished(stream: Stream, beside: str) -> None:
    """Broken unless the stream has a finish reason and a clean end."""
    ending = stream.exchange.ending
    demand(
        stream.finish() is not None and ending in (Ending.COMPLETE, Ending.CLOSED),
        f"a stream beside {beside} has finish reason {shown(stream.finish())} and ended: {ending};"
        f" its text is {shown(stream.text())}",
    )


@case(
    "CHAT-CONC-005",
    clause_id="concurrency.refusal-no-trace",
    reason="one bad request has killed engines for good",
)
def test_refusals_leave_no_trace(target: Target) -> None:
    """After a dozen bad requests a good one is answered."""
    good = target.body(HELLO, 4)
    for number in range(4):
        for bad in (b"{", good | {"messages": []}, good | {"temperature": -1 - number}):
            target.post(bad)
    target.ask(HELLO, 4)


def overlapped(target: Target, other: Callable[[], int]) -> tuple[int, int]:
    """Start a long stream, run `other` from its first text on; (the time it gives, the time it should keep).

    The latter is when nine tenths of the time between the first and the last text were over: at the very
    end the two threads of this client could see the two events in either order.

    Unjudged when no stream lasts long enough, in itself and beside its time to the first token.
    """
    for prompt in LONG_ANSWERS:
        with target.open_stream(prompt, 64) as live, ThreadPoolExecutor(1) as pool:
            first = live.first_content()
            answered = pool.submit(other)
            texts = [delta.t_ns for delta in live.read().deltas() if delta.content or delta.reasoning]
            done = answered.result()
        last = max(texts, default=first)
        lasted, waited = clock_ms(last, first), clock_ms(first, live.exchange.sent_ns)
        if lasted >= max(LEAST_MS, 3 * waited):
            return done, first + (last - first) * 9 // 10
    raise Unjudged(f"no stream lasted {LEAST_MS:g} ms and three times its first token's wait")


@case(
    "CHAT-CONC-006",
    clause_id="concurrency.progress",
    reason="with one lock the last of ten users waits for nine answers",
    confirm=True,
)
def test_streams_make_progress_together(target: Target) -> None:
    """A second stream brings text before the first one has ended."""

    def second() -> int:
        with target.open_stream(HELLO, 8) as live:
            return live.first_content()

    done, due = overlapped(target, second)
    demand(
        done < due,
        f"the second stream's text came {clock_ms(done, due):.0f} ms after nine tenths of the first stream",
    )


@case(
    "CHAT-CONC-007",
    clause_id="concurrency.models-during",
    reason="a probe that stalls gets a healthy server killed",
    confirm=True,
)
def test_models_answer_during_a_stream(target: Target) -> None:
    """/v1/models is answered while a stream runs."""
    done, due = overlapped(target, lambda: target.get(MODELS).ended_ns)
    demand(done < due, f"{MODELS} was answered {clock_ms(done, due):.0f} ms after nine tenths of the stream")


@case(
    "CHAT-CONC-009",
    clause_id="concurrency.newcomer-harmless",
    reason="a server that drops the first user for the second serves one user",
)
def test_newcomers_cut_no_stream(target: Target) -> None:
    """A stream runs to its end while another good request is answered or queued beside it."""
    with target.open_stream(STORY, 48) as live, ThreadPoolExecutor(1) as pool:
        live.first_content()
        second = pool.submit(target.ask, HELLO, 4)
        stream = live.read()
        second.result()
    target.last = live.exchange
    check_finished(stream, "another good request")


@case(
    "CHAT-CONC-008",
    clause_id="concurrency.half-requests",
    reason="one bad network must not hold everybody's worker",
)
def test_half_requests_hold_nobody(target: Target) -> None:
    """While four clients have sent half of their requests, a whole one is answered."""
    request = target.request("POST", CHAT, encode(target.body(HELLO, 4)))
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(target.connect()).send_half(request)
        target.ask(HELLO, 4)
