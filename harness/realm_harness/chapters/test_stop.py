"""Stop strings. A case first asks without one, then takes a piece of the answer as the stop string."""

from __future__ import annotations

import re

from realm_harness.answers import shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.prompts import LONG_ANSWERS
from realm_harness.target import Target

TOKENS = 40


def answer_and_stop(target: Target, pattern: str) -> tuple[str, str, str]:
    """(prompt, its answer, a piece of its middle that matches `pattern`); Unjudged when there is none."""
    for prompt in LONG_ANSWERS:
        try:
            text = target.settled(prompt, TOKENS)
        except Unjudged:
            continue
        for match in re.finditer(pattern, text):
            piece = match.group()
            if match.start() >= len(text) // 4 and text.find(piece) >= 8 and match.end() < len(text) - 4:
                return prompt, text, piece
    raise Unjudged("no answer at temperature 0 was stable and long enough to take a stop string from")


def before(text: str, stop: str) -> str:
    """What is left of a text that ends before `stop`."""
    return text[: text.find(stop)]


def check_text(text: str, expected: str, stop: str, free: str) -> None:
    """Broken unless `text` is `expected`; spaces at the end may be trimmed."""
    demand(stop not in text, f"with stop {stop!r} the text contains it: {shown(text)}")
    demand(
        text.rstrip() == expected.rstrip(),
        f"with stop {stop!r} the text is {shown(text)}; due was {shown(expected)}; without: {shown(free)}",
    )


@case("CHAT-STOP-001", clause_id="stop.string", reason="programs cut answers with it", confirm=True)
def test_stop_string(target: Target) -> None:
    """The text ends before a stop word, with finish reason stop."""
    prompt, text, stop = answer_and_stop(target, r"\w{3,12}")
    answer = target.ask(prompt, TOKENS, temperature=0, stop=stop)
    check_text(answer.text(), before(text, stop), stop, text)
    demand(answer.finish() == "stop", f"the finish reason after a stop string is {shown(answer.finish())}")


@case(
    "CHAT-STOP-002",
    clause_id="stop.across-tokens",
    reason="a stop string knows nothing of tokens",
    confirm=True,
)
def test_stop_string_across_tokens(target: Target) -> None:
    """A stop string that begins in one word and ends in the next is found."""
    prompt, text, stop = answer_and_stop(target, r"\w\w [^\W_]\w")
    answer = target.ask(prompt, TOKENS, temperature=0, stop=[stop])
    check_text(answer.text(), before(text, stop), stop, text)


@case("CHAT-STOP-003", clause_id="stop.stream", reason="what is streamed cannot be taken back", confirm=True)
def test_stop_string_in_stream(target: Target) -> None:
    """A stream with a stop string sends nothing of it, nor of its beginning."""
    prompt, text, stop = answer_and_stop(target, r"\w{3} \w+ \w{2}")
    stream = target.stream(prompt, TOKENS, temperature=0, stop=[stop])
    check_text(stream.text(), before(text, stop), stop, text)
    demand(stream.finish() == "stop", f"the finish reason after a stop string is {shown(stream.finish())}")


@case("CHAT-STOP-004", clause_id="stop.list", reason="programs name several ends", confirm=True)
def test_stop_list(target: Target) -> None:
    """The second string of a stop list counts as the first does."""
    prompt, text, stop = answer_and_stop(target, r"\w{3,12}")
    answer = target.ask(prompt, TOKENS, temperature=0, stop=["\u2603 realm never", stop])
    check_text(answer.text(), before(text, stop), stop, text)


@case(
    "CHAT-STOP-005",
    clause_id="stop.absent",
    reason="servers have sent nothing at all when stop was set",
    confirm=True,
)
def test_stop_that_does_not_occur(target: Target) -> None:
    """A stop string that does not occur changes nothing."""
    prompt, text, _ = answer_and_stop(target, r"\w{3,12}")
    for answer in (
        target.ask(prompt, TOKENS, temperature=0, stop=["\u2603 realm never"]).text(),
        target.stream(prompt, TOKENS, temperature=0, stop=["\u2603 realm never"]).text(),
    ):
        demand(
            answer == text,
            f"with a stop that does not occur the text is {shown(answer)}; without, {shown(text)}",
        )
