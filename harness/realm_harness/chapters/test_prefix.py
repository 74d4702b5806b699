"""Prompts that begin alike: what an engine keeps of one is nobody else's, and does not show in the next."""

from __future__ import annotations

import random
from secrets import token_hex
from statistics import median

from realm_harness.answers import Json, shown
from realm_harness.case import case, demand
from realm_harness.chapters.test_concurrency import check_code_words
from realm_harness.chapters.test_tenants import other
from realm_harness.prompts import about_code_word, code_word, long_prompt
from realm_harness.target import Target, clock_ms

PAIRS = 6
QUICKER = 0.75
"""A prompt that takes less than this part of another one's time is not read from its beginning."""


def fresh_prompt() -> str:
    """A long prompt that nobody has sent before."""
    return long_prompt(random.randrange(10**6), token_hex(6))


def greedy(target: Target, prompt: str, tokens: int = 16) -> str:
    """An answer at temperature 0."""
    return target.ask(prompt, tokens, temperature=0).text()


@case(
    "CHAT-PREFIX-001",
    clause_id="prefix.same",
    reason="the second user of a system prompt must not get a worse answer",
    confirm=True,
)
def test_warm_prompts(target: Target) -> None:
    """At temperature 0 a long prompt is answered the same the first, the second and the third time."""
    prompt = fresh_prompt()
    first, *later = (greedy(target, prompt) for _ in range(3))
    for number, text in enumerate(later, 2):
        demand(text == first, f"first the answer is {shown(first)}, time {number} it is {shown(text)}")


def alternately(target: Target, prompts: list[list[Json]], words: list[str]) -> None:
    """Broken when an answer says a word of another's prompt; the prompts are asked twice, in turn."""
    tenants = [target] if target.other_key is None else [target, other(target)]
    asked = [*zip(prompts, words, strict=True)] * 2
    texts = [
        tenants[number % len(tenants)].ask(messages, 24, temperature=0).text()
        for number, (messages, _) in enumerate(asked)
    ]
    for (_, own), text in zip(asked, texts, strict=True):
        foreign = [word for word in words if word != own and word in text]
        demand(not foreign, f"the answer to a prompt about {own} says {', '.join(foreign)}: {shown(text)}")
    check_code_words(words, texts[: len(words)])


def asking(word: str) -> str:
    """A question that begins with its code word, so that hardly an answer is without it."""
    return f"{word}: {about_code_word(word)}"


def said(role: str, content: str) -> Json:
    """A message."""
    return {"role": role, "content": content}


@case("CHAT-PREFIX-002", clause_id="prefix.own", reason="what differs comes last, with the user's words")
def test_the_same_beginning(target: Target) -> None:
    """Long prompts that differ at their end alone, of two tenants, are each answered for themselves."""
    begin = said("system", fresh_prompt())
    words = [code_word(400 + number) for number in range(3)]
    alternately(target, [[begin, said("user", asking(word))] for word in words], words)


@case("CHAT-PREFIX-003", clause_id="prefix.own", reason="a block is another one behind other words")
def test_the_same_end(target: Target) -> None:
    """Long prompts that differ at their beginning alone, of two tenants, are each answered for themselves."""
    end = f"{fresh_prompt()} Now repeat the code word that stands at the very beginning."
    words = [code_word(500 + number) for number in range(3)]
    alternately(target, [[said("user", f"{asking(word)} {end}")] for word in words], words)


@case(
    "CHAT-PREFIX-006",
    clause_id="prefix.same",
    reason="who asks first must not be answered better than who asks second",
    confirm=True,
)
def test_cold_and_half_warm(target: Target) -> None:
    """At temperature 0 a prompt whose end one tenant has sent before is answered to both tenants the same."""
    tenants = target, other(target)
    end = fresh_prompt()
    greedy(target, f"{token_hex(6)} comes first. {end}")
    prompt = f"{token_hex(6)} comes first. {end}"
    texts = [greedy(tenant, prompt) for tenant in tenants]
    demand(
        texts[0] == texts[1],
        f"who has sent its end before gets {shown(texts[0])}, who has not gets {shown(texts[1])}",
    )


def waited_ms(target: Target, prompt: str) -> float:
    """Until an answer of one token is there."""
    exchange = target.ask(prompt, 1, temperature=0).exchange
    return clock_ms(exchange.ended_ns, exchange.sent_ns)


@case(
    "CHAT-PREFIX-004",
    clause_id="prefix.timing",
    reason="who can time a cache can spell out what others have sent",
    confirm=True,
)
def test_nobody_learns_by_timing(target: Target) -> None:
    """A prompt that another tenant has just sent is not read faster than one that nobody has sent.

    Six pairs of new prompts, each with one that the other tenant has sent before, in an order by chance.
    Broken when the known one takes less than 3/4 of the unknown one's time in all six, twice in a row: by
    noise that makes one in two so much quicker that is one time in 4096, and a cache that halves the time
    is seen unless the noise is as large as what it saves.
    """
    victim, curious = target, other(target)
    times: list[tuple[float, float]] = []
    for _ in range(PAIRS):
        known, unknown = fresh_prompt(), fresh_prompt()
        greedy(victim, known, 1)
        order = [known, unknown] if random.random() < 0.5 else [unknown, known]
        took = {prompt: waited_ms(curious, prompt) for prompt in order}
        times.append((took[known], took[unknown]))
        if took[known] >= QUICKER * took[unknown]:
            return
    fast, slow = (median(column) for column in zip(*times, strict=True))
    demand(
        False,
        f"prompts that another tenant sent take {fast:.1f} ms, new ones {slow:.1f} ms, six times of six",
    )


@case("CHAT-PREFIX-005", clause_id="prefix.usage", reason="a prompt is billed by its length")
def test_usage_of_warm_prompts(target: Target) -> None:
    """A long prompt has as many prompt_tokens the second time, and no more of them cached than it has."""
    prompt = fresh_prompt()
    cold, warm = (target.ask(prompt, 2, temperature=0) for _ in range(2))
    counts = cold.count("prompt_tokens"), warm.count("prompt_tokens")
    demand(counts[0] == counts[1], f"prompt_tokens is {counts[0]} the first time, then {counts[1]}")
    for answer, count in zip((cold, warm), counts, strict=True):
        details = answer.usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        if isinstance(cached, int):
            demand(0 <= cached <= count, f"cached_tokens is {cached} of {count} prompt_tokens")
