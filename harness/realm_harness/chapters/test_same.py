"""A stream and the whole answer to the same request are the same answer."""

from __future__ import annotations

from realm_harness.answers import shown
from realm_harness.case import Broken, Unjudged, case, demand
from realm_harness.prompts import LONG_ANSWERS, MULTIBYTE, STORY
from realm_harness.target import Target


def difference(one: str, other: str) -> str:
    """Where two texts part, for a message."""
    at = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    start = max(0, at - 20)
    return f"they part at character {at}: {one[start : at + 20]!r} and {other[start : at + 20]!r}"


@case(
    "CHAT-SAME-001",
    clause_id="same.text",
    reason="text lost or changed on the way is seen by nobody",
    confirm=True,
)
def test_same_text(target: Target) -> None:
    """At temperature 0 the joined deltas are the whole answer's content."""
    judged = 0
    for prompt in (STORY, LONG_ANSWERS[1], MULTIBYTE[0]):
        try:
            whole = target.settled(prompt, 40)
        except Unjudged:
            continue
        streamed = target.stream(prompt, 40, temperature=0).text()
        judged += bool(whole)
        if streamed != whole:
            raise Broken(f"the whole answer and the joined deltas differ; {difference(whole, streamed)}")
    if not judged:
        raise Unjudged("no question had the same answer at temperature 0 twice")


@case("CHAT-SAME-002", clause_id="same.finish", reason="clients decide by it whether to go on", confirm=True)
def test_same_finish_reason(target: Target) -> None:
    """A capped stream and the capped whole answer have the same finish reason."""
    whole = target.ask(STORY, 6, temperature=0)
    stream = target.stream(STORY, 6, temperature=0)
    demand(
        stream.finish() == whole.finish(),
        f"the whole answer's finish reason is {shown(whole.finish())}, the stream's {shown(stream.finish())}",
    )


@case(
    "CHAT-SAME-003",
    clause_id="same.always",
    reason="what is broken once in ten times passes every quick look",
    confirm=True,
)
def test_same_text_each_time(target: Target) -> None:
    """At temperature 0 the same question gets the same answer twelve times, streamed and whole in turn."""
    expected = target.settled(STORY, 16)
    for number in range(12):
        streamed = number % 2 == 0
        ask = target.stream if streamed else target.ask
        text = ask(STORY, 16, temperature=0).text()
        how = "streamed" if streamed else "whole"
        demand(
            text == expected,
            f"answer {number + 1} of 12 ({how}) is another than before; {difference(expected, text)}",
        )
