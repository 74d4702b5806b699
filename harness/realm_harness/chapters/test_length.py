"""Caps on the answer's length, and the finish reason that goes with them."""

from __future__ import annotations

from realm_harness.answers import Answer, shown
from realm_harness.case import Broken, Unjudged, case, demand
from realm_harness.prompts import LONG_ANSWERS, SHORT_ANSWERS, STORY
from realm_harness.target import Target

SHORT, LONG = 5, 40

MANY_WORDS = 3 * SHORT
"""More words than SHORT tokens can make, even with a tokenizer that joins words."""


def long_prompt(target: Target) -> tuple[str, str]:
    """(a question, its answer at temperature 0) with clearly more tokens than SHORT; Unjudged if none.

    Words are counted, not the server's own tokens: usage may be what is wrong.
    """
    for prompt in LONG_ANSWERS:
        try:
            text = target.settled(prompt, LONG)
        except Unjudged:
            continue
        if len(text.split()) > MANY_WORDS + 2:
            return prompt, text
    raise Unjudged(f"no answer was stable and had clearly more than {MANY_WORDS} words")


def check_cut(answer: Answer, cap: str, free: str) -> None:
    """Broken unless the answer looks cut at SHORT tokens."""
    words = len(answer.text().split())
    demand(
        words <= MANY_WORDS,
        f"with {cap} = {SHORT} the answer has {words} words: {shown(answer.text())}",
    )
    if answer.usage:
        tokens = answer.count("completion_tokens")
        demand(tokens <= SHORT, f"with {cap} = {SHORT} usage counts {tokens} completion tokens")
    demand(
        answer.finish() == "length",
        f"with {cap} = {SHORT} the finish reason is {shown(answer.finish())};"
        f" the text is {shown(answer.text())}, and with {LONG} tokens it goes on: {shown(free)}",
    )


@case("CHAT-LENGTH-001", clause_id="length.max-tokens", reason="it bounds what an answer costs", confirm=True)
def test_max_tokens(target: Target) -> None:
    """max_tokens cuts the answer, with finish reason length."""
    prompt, free = long_prompt(target)
    check_cut(target.ask(prompt, SHORT, temperature=0), target.cap_parameter, free)


@case(
    "CHAT-LENGTH-002",
    clause_id="length.max-completion-tokens",
    reason="newer clients send this one; dropped, it costs without bound",
    confirm=True,
)
def test_max_completion_tokens(target: Target) -> None:
    """max_completion_tokens cuts the answer too."""
    prompt, _ = long_prompt(target)
    text = ""
    with target.open_stream(prompt, None, temperature=0, max_completion_tokens=SHORT) as live:
        for _, piece in live.contents():
            text += piece
            if len(text.split()) > MANY_WORDS:  # a server that drops the cap may go on for very long
                live.leave()
                raise Broken(f"with max_completion_tokens = {SHORT} the stream goes on: {shown(text)}")
        stream = live.read()
    demand(
        stream.finish() == "length",
        f"with max_completion_tokens = {SHORT} the finish reason is {shown(stream.finish())}",
    )


@case(
    "CHAT-LENGTH-003",
    clause_id="length.stream",
    reason="clients offer to go on when an answer was cut",
    confirm=True,
)
def test_cut_stream(target: Target) -> None:
    """A stream cut by the cap has finish reason length."""
    prompt, free = long_prompt(target)
    stream = target.stream(prompt, SHORT, temperature=0)
    words = len(stream.text().split())
    demand(
        words <= MANY_WORDS,
        f"with a cap of {SHORT} tokens the stream has {words} words: {shown(stream.text())}",
    )
    demand(
        stream.finish() == "length",
        f"a stream cut at {SHORT} tokens has finish reason {shown(stream.finish())}; uncut: {shown(free)}",
    )


@case(
    "CHAT-LENGTH-004", clause_id="length.natural-end", reason="clients offer to go on when they read length"
)
def test_natural_end(target: Target) -> None:
    """An answer that ends below the cap has finish reason stop."""
    cap = 96
    for prompt in SHORT_ANSWERS:
        answer = target.ask(prompt, cap, temperature=0)
        if not answer.usage:
            raise Unjudged("the server sends no usage, by which an answer below the cap could be told")
        if answer.count("completion_tokens") < cap - 1:
            demand(
                answer.finish() == "stop",
                f"an answer of {answer.count('completion_tokens')} tokens, below the cap of {cap},"
                f" has finish reason {shown(answer.finish())}: {shown(answer.text())}",
            )
            return
    raise Unjudged(f"no answer ended by itself within {cap} tokens")


@case(
    "CHAT-LENGTH-005",
    clause_id="length.prefix",
    reason="a cap that changes the text makes answers depend on it",
    confirm=True,
)
def test_shorter_answer_is_a_prefix(target: Target) -> None:
    """At temperature 0 the capped answer begins the longer one."""
    text = target.settled(STORY, LONG)
    short = target.ask(STORY, SHORT, temperature=0).text().rstrip("\ufffd").rstrip()
    demand(
        text.startswith(short),
        f"with {SHORT} tokens the text is {shown(short)}, with {LONG} it is {shown(text)}",
    )
