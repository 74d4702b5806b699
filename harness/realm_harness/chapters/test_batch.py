"""Many requests in one engine: a request's answer is its own, whoever joins, leaves or fills the memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from realm_harness.answers import Json, shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.chapters.test_concurrency import check_code_words
from realm_harness.chapters.test_logprobs import entries
from realm_harness.prompts import LONG_ANSWERS, STORY, about_code_word, code_word, long_prompt
from realm_harness.target import Target

HOT = 1.2
TOKENS = 16
COPIES = 8
CROWD = 24
"""More requests than most servers have places for in one step."""

Ask = Callable[[], str]


def seeded(target: Target, prompt: str, seed: int, *, streamed: bool = False) -> str:
    """An answer that is drawn with a seed."""
    ask = target.stream if streamed else target.ask
    return ask(prompt, TOKENS, temperature=HOT, seed=seed).text()


def alone(target: Target, prompt: str, seed: int) -> str:
    """A seeded answer with nobody beside it; Unjudged unless it is the same twice."""
    first, second = (seeded(target, prompt, seed) for _ in range(2))
    if first != second:
        raise Unjudged("a seed gives two answers alone: see CHAT-SAMPLE-002")
    return first


@case(
    "CHAT-BATCH-001",
    clause_id="batch.seeded",
    reason="an answer that can be had again only at night cannot be had again",
    confirm=True,
)
def test_seeds_under_load(target: Target) -> None:
    """A seeded answer is the same alone and beside seven others, whole or streamed."""
    due = {prompt: alone(target, prompt, seed) for seed, prompt in enumerate(LONG_ANSWERS)}
    asks: list[Ask] = [
        lambda p=prompt, s=seed, h=how: seeded(target, p, s, streamed=h)  # type: ignore[misc]
        for how in (False, True)
        for seed, prompt in enumerate(LONG_ANSWERS)
    ]
    for prompt, text in zip([*due, *due], target.together(asks), strict=True):
        demand(text == due[prompt], f"alone a seed gives {shown(due[prompt])}, beside others {shown(text)}")


@case(
    "CHAT-BATCH-002", clause_id="batch.seeded", reason="noise that is shared is noise that is lost",
    confirm=True,
)  # fmt: skip
def test_copies_under_load(target: Target) -> None:
    """Eight copies of a seeded request at the same time get the answer that it gets alone."""
    due = alone(target, STORY, 77)
    texts = target.together([lambda: seeded(target, STORY, 77) for _ in range(COPIES)])
    wrong = [text for text in texts if text != due]
    demand(
        not wrong, f"{len(wrong)} of {COPIES} copies get another answer: {shown(wrong[:1])}, not {shown(due)}"
    )


@case(
    "CHAT-BATCH-003",
    clause_id="concurrency.greedy-alone",
    reason="a long prompt is read in pieces, between the others' tokens",
    confirm=True,
)
def test_beside_long_prompts(target: Target) -> None:
    """At temperature 0 an answer is the same alone and while three long prompts are read."""
    due = target.settled(STORY, TOKENS)
    long = [long_prompt(number) for number in range(3)]
    asks: list[Ask] = [lambda p=prompt: target.ask(p, 2, temperature=0).text() for prompt in long]  # type: ignore[misc]
    asks += [lambda: target.ask(STORY, TOKENS, temperature=0).text() for _ in range(3)]
    for text in target.together(asks)[len(long) :]:
        demand(text == due, f"alone the answer is {shown(due)}, beside long prompts {shown(text)}")


@case(
    "CHAT-BATCH-004",
    clause_id="batch.leave",
    reason="places are moved together when one of them gets free",
    confirm=True,
)
def test_neighbours_that_leave(target: Target) -> None:
    """A stream at temperature 0 says what it says alone while four others are left in the middle."""
    due = target.settled(STORY, 32)
    with ExitStack() as others, target.open_stream(STORY, 32, temperature=0) as mine:
        for prompt in LONG_ANSWERS:
            live = others.enter_context(target.open_stream(prompt, 64))
            live.first_content()
            live.leave()
        text = mine.read().text()
    target.last = mine.exchange
    demand(text == due, f"alone the stream says {shown(due)}, beside streams that were left {shown(text)}")


@case(
    "CHAT-BATCH-005",
    clause_id="batch.crowd",
    reason="who has to make room begins again, and must not be seen to",
    confirm=True,
)
def test_more_than_fit(target: Target) -> None:
    """Twenty-four requests at the same time at temperature 0 get the answers that they get alone."""
    due = {prompt: target.settled(prompt, 2 * TOKENS) for prompt in LONG_ANSWERS}
    prompts = [LONG_ANSWERS[number % len(LONG_ANSWERS)] for number in range(CROWD)]

    def task(prompt: str) -> Ask:
        return lambda: target.stream(prompt, 2 * TOKENS, temperature=0).text()

    texts = target.together([task(prompt) for prompt in prompts])
    wrong = [(p, text) for p, text in zip(prompts, texts, strict=True) if text != due[p]]
    if wrong:
        prompt, text = wrong[0]
        told = f"alone one is {shown(due[prompt])}, among them it is {shown(text)}"
        demand(not wrong, f"{len(wrong)} of {CROWD} answers at the same time differ; {told}")


@case(
    "CHAT-BATCH-006",
    clause_id="batch.logprobs",
    reason="scores that change with the load compare loads, not texts",
    confirm=True,
)
def test_logprobs_under_load(target: Target) -> None:
    """At temperature 0 log probabilities are the same numbers alone and beside seven others."""

    def scores() -> list[Json]:
        answer = target.ask(STORY, 8, temperature=0, logprobs=True)
        return [{"token": e.get("token"), "logprob": e.get("logprob")} for e in entries(answer)]

    due = scores()
    if scores() != due:
        raise Unjudged("log probabilities at temperature 0 differ from one request to the next, alone")
    for told in target.together([scores] * COPIES):
        wrong = next((pair for pair in zip(due, told, strict=False) if pair[0] != pair[1]), (due, told))
        demand(told == due, f"alone {shown(wrong[0])}, beside others {shown(wrong[1])}")


@case(
    "CHAT-BATCH-007",
    clause_id="concurrency.own-answer",
    reason="one customer's words have reached another's stream",
)
def test_streams_do_not_mix(target: Target) -> None:
    """Eight streams at the same time, each with its own code word: no stream has another's."""
    words = [code_word(300 + number) for number in range(COPIES)]

    def stream(word: str) -> str:
        return target.stream(about_code_word(word), 24, temperature=0).text()

    with ThreadPoolExecutor(COPIES) as pool:
        check_code_words(words, list(pool.map(stream, words)))
