"""Several choices of one request (n > 1): each is an answer of its own, and the stream keeps them apart."""

from __future__ import annotations

from realm_harness.answers import Answer, Stream, shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.prompts import STORY
from realm_harness.target import Target

TOKENS = 12
PARAMS = {"n": 2, "temperature": 1, "seed": 7}


def pair(target: Target) -> Answer:
    """A whole answer of two choices with a seed; Unjudged when it has one."""
    answer = target.ask(STORY, TOKENS, **PARAMS)
    if len(answer.choices) < 2:
        raise Unjudged("n = 2 brings one choice: see CHAT-SCHEMA-008")
    return answer


def texts(answer: Answer) -> dict[str, str]:
    """The content of each choice by its index."""
    return {str(choice.get("index")): answer.text(place) for place, choice in enumerate(answer.choices)}


def pair_stream(target: Target, **more: object) -> Stream:
    """A stream of two choices with a seed; Unjudged when it has one."""
    stream = target.stream(STORY, TOKENS, **PARAMS, **more)
    if stream.indexes != [0, 1]:
        raise Unjudged(f"a stream of n = 2 has the choices {stream.indexes}: see CHAT-STREAM-019")
    return stream


@case("CHAT-SEVERAL-001", clause_id="several.role", reason="clients make each message's role of it")
def test_each_choice_has_its_role(target: Target) -> None:
    """In a stream of n = 2 the first delta of each choice brings the role, and no other does."""
    stream = pair_stream(target)
    for index in (0, 1):
        roles = [delta.role for delta in stream.deltas(index)]
        fine = roles[0] == "assistant" and not any(roles[1:])
        demand(fine, f"the deltas of choice {index} have the roles {shown(roles)}")


@case(
    "CHAT-SEVERAL-006",
    clause_id="several.order",
    reason="the stream helper of openai-python raises IndexError where another comes first",
)
def test_the_first_choice_begins(target: Target) -> None:
    """A stream of n = 2 begins with the choice of index 0."""
    first = next(
        (choice.get("index") for chunk in pair_stream(target).chunks for choice in chunk.choices), None
    )
    demand(first == 0, f"the first chunk of a stream of n = 2 is of the choice with index {shown(first)}")


@case(
    "CHAT-SEVERAL-002",
    clause_id="several.seeded",
    reason="an experiment with several choices can be had again",
    confirm=True,
)
def test_a_seed_fixes_all_choices(target: Target) -> None:
    """The same seed gives the same two choices again."""
    first, again = texts(pair(target)), texts(pair(target))
    demand(first == again, f"two answers with n = 2 and the same seed: {shown([first, again], 400)}")


@case(
    "CHAT-SEVERAL-003",
    clause_id="several.apart",
    reason="text under the wrong index is another choice's answer",
    confirm=True,
)
def test_stream_keeps_choices_apart(target: Target) -> None:
    """With a seed, each index of a stream of n = 2 has the text that it has in the whole answer."""
    whole = texts(pair(target))
    if texts(pair(target)) != whole:
        raise Unjudged("the same seed gives other choices each time: see CHAT-SEVERAL-002")
    stream = pair_stream(target)
    for index in (0, 1):
        streamed, told = stream.text(index), whole.get(str(index))
        demand(streamed == told, f"choice {index} is {shown(told)} whole, {shown(streamed)} streamed")


@case("CHAT-SEVERAL-004", clause_id="several.usage", reason="two answers cost what two answers cost")
def test_tokens_of_all_choices_count(target: Target) -> None:
    """Two choices that are cut at the cap have twice as many completion tokens, whole or streamed."""
    whole = pair(target)
    stream = pair_stream(target, stream_options={"include_usage": True})
    reasons = [whole.finish(0), whole.finish(1), stream.finish(0), stream.finish(1)]
    if reasons != ["length"] * 4:
        raise Unjudged(f"not all choices were cut at {TOKENS} tokens: they finished with {shown(reasons)}")
    counts = {"the answer": whole.usage}
    if stream.usages:
        counts["the stream"] = stream.usages[-1].data["usage"]
    for name, usage in counts.items():
        told = usage.get("completion_tokens")
        demand(told == 2 * TOKENS, f"two choices of {TOKENS} tokens: {name} counts {told}: {shown(usage)}")


@case("CHAT-SEVERAL-005", clause_id="several.finish", reason="each choice may be cut, or not")
def test_each_choice_has_its_finish_reason(target: Target) -> None:
    """A choice of n = 2 that has as many tokens as the cap finishes with length, as one alone does."""
    answer = target.ask(STORY, TOKENS, n=2, temperature=0)
    alone = target.ask(STORY, TOKENS, temperature=0)
    same = [place for place in range(len(answer.choices)) if answer.text(place) == alone.text()]
    if not same:
        raise Unjudged("no choice is the answer of the same request without n")
    for place in same:
        found, told = answer.finish(place), alone.finish()
        demand(found == told, f"the same text finishes with {shown(found)} under n = 2, {shown(told)} alone")
