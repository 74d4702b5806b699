"""Speculation: guesses make an answer come sooner, and change nothing of it.

`draft_tokens` is how many tokens a server may guess at a time. A server that speculates without being asked
is judged by the same cases: what it says at one cap has to agree with what it says at another.
"""

from __future__ import annotations

from realm_harness.answers import Json, shown
from realm_harness.case import Unjudged, Unsupported, case, demand
from realm_harness.chapters.test_logprobs import entries
from realm_harness.metricspage import scrape
from realm_harness.prompts import LONG_ANSWERS, STORY
from realm_harness.target import Target

REPETITIVE = "Repeat this line ten times, exactly: the cat sat on the mat, the cat sat on the mat."
"""Whoever guesses from the text guesses much of this one."""

PROMPTS = (REPETITIVE, STORY, LONG_ANSWERS[1])
GUESSES = 4
TOKENS = 32
CAPS = range(1, 10)


@case("CHAT-DRAFT-001", clause_id="draft.same", reason="guesses are for speed", confirm=True)
def test_greedy(target: Target) -> None:
    """At temperature 0 an answer with draft_tokens is the one without."""
    for prompt in PROMPTS:
        due = target.settled(prompt, TOKENS, draft_tokens=0)
        text = target.ask(prompt, TOKENS, temperature=0, draft_tokens=GUESSES).text()
        demand(text == due, f"without guesses the answer is {shown(due)}, with {GUESSES} {shown(text)}")


@case(
    "CHAT-DRAFT-002",
    clause_id="draft.seeded",
    reason="a guess that is likely is not the token that is drawn",
    confirm=True,
)
def test_seeded(target: Target) -> None:
    """A seeded answer at temperature 1 with draft_tokens is the one without."""
    for seed, prompt in enumerate(PROMPTS):
        params: Json = {"temperature": 1, "seed": seed}
        plain, again = (target.ask(prompt, TOKENS, draft_tokens=0, **params).text() for _ in range(2))
        if plain != again:
            raise Unjudged("a seed gives two answers alone: see CHAT-SAMPLE-002")
        text = target.ask(prompt, TOKENS, draft_tokens=GUESSES, **params).text()
        demand(text == plain, f"seed {seed} gives {shown(plain)}, and with guesses {shown(text)}")


@case("CHAT-DRAFT-003", clause_id="draft.cap", reason="guesses that come true are counted too", confirm=True)
def test_caps(target: Target) -> None:
    """At temperature 0 each cap gives that many tokens at most, and the beginning of the longer answer."""
    for guesses in (0, GUESSES):
        whole = target.ask(REPETITIVE, TOKENS, temperature=0, draft_tokens=guesses).text()
        for cap in CAPS:
            answer = target.ask(REPETITIVE, cap, temperature=0, draft_tokens=guesses)
            count = answer.count("completion_tokens")
            demand(count <= cap, f"with a cap of {cap} and draft_tokens {guesses} there are {count} tokens")
            begins = whole.startswith(answer.text().rstrip("\ufffd"))
            said = f"the longer answer is {shown(whole)}, with a cap of {cap} it is {shown(answer.text())}"
            demand(begins, said)


@case(
    "CHAT-DRAFT-004", clause_id="draft.stops", reason="what comes after a stop was never said", confirm=True
)
def test_stops(target: Target) -> None:
    """At temperature 0 a stop string ends an answer with draft_tokens where it ends it without."""
    for prompt in PROMPTS:
        words = target.settled(prompt, TOKENS, draft_tokens=0).split()
        if len(words) < 6:
            raise Unjudged(f"an answer of {TOKENS} tokens has only {len(words)} words")
        stop = words[len(words) // 2]
        params: Json = {"temperature": 0, "stop": [stop]}
        due = target.ask(prompt, TOKENS, draft_tokens=0, **params).text()
        text = target.ask(prompt, TOKENS, draft_tokens=GUESSES, **params).text()
        demand(text == due, f"with the stop {stop!r} it is {shown(due)}, and with guesses {shown(text)}")


@case("CHAT-DRAFT-005", clause_id="draft.logprobs", reason="each token has a row of its own", confirm=True)
def test_logprobs(target: Target) -> None:
    """At temperature 0 log probabilities with draft_tokens are those without."""

    def scores(**params: int) -> list[Json]:
        answer = target.ask(REPETITIVE, 16, temperature=0, logprobs=True, **params)
        return [{"token": e.get("token"), "logprob": e.get("logprob")} for e in entries(answer)]

    due = scores(draft_tokens=0)
    if scores(draft_tokens=0) != due:
        raise Unjudged("log probabilities at temperature 0 differ from one request to the next, alone")
    told = scores(draft_tokens=GUESSES)
    wrong = next((pair for pair in zip(due, told, strict=False) if pair[0] != pair[1]), (due, told))
    demand(told == due, f"without guesses {shown(wrong[0])}, with them {shown(wrong[1])}")


@case("CHAT-DRAFT-006", clause_id="draft.counted", reason="a share of guesses above one helps nobody decide")
def test_counters(target: Target) -> None:
    """Guesses are counted, and no more of them are kept than were made."""
    before = scrape(target).total("realm_draft_tokens_total")
    if before is None:
        raise Unsupported("the page of metrics has no realm_draft_tokens_total")
    target.ask(REPETITIVE, TOKENS, temperature=0, draft_tokens=GUESSES)
    page = scrape(target)
    made = page.total("realm_draft_tokens_total") or 0.0
    kept = page.total("realm_draft_accepted_total") or 0.0
    demand(kept <= made, f"{kept:g} guesses were kept, {made:g} made")
    if made <= before:
        raise Unjudged("a repetitive answer was generated without a guess")
