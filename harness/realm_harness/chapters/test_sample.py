"""Sampling parameters: that they reach the engine at all, seen by comparing answers."""

from __future__ import annotations

from realm_harness.answers import shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.prompts import STORY
from realm_harness.target import Target

HOT = 1.5
TOKENS = 12


def seeded(target: Target, seed: int) -> str:
    """An answer at a high temperature with a seed."""
    return target.ask(STORY, TOKENS, temperature=HOT, seed=seed).text()


@case(
    "CHAT-SAMPLE-001", clause_id="sample.greedy-stable", reason="tests and caches build on it", confirm=True
)
def test_temperature_zero_is_stable(target: Target) -> None:
    """At temperature 0 three requests give the same answer."""
    answers = [target.ask(STORY, TOKENS, temperature=0).text() for _ in range(3)]
    demand(len(set(answers)) == 1, f"three answers at temperature 0: {shown(answers, 400)}")


@case("CHAT-SAMPLE-002", clause_id="sample.seed-stable", reason="an answer can be had again", confirm=True)
def test_same_seed(target: Target) -> None:
    """The same seed gives the same answer at a high temperature."""
    answers = [seeded(target, 12345) for _ in range(2)]
    demand(answers[0] == answers[1], f"two answers with seed 12345: {shown(answers, 400)}")


@case("CHAT-SAMPLE-003", clause_id="sample.seed-matters", reason="a seed that does not matter is ignored")
def test_different_seeds(target: Target) -> None:
    """Of five seeds at a high temperature at least two give different answers."""
    answers = {seeded(target, seed) for seed in (1, 22, 333, 4444, 55555)}
    demand(len(answers) > 1, f"five seeds at temperature {HOT} all give {shown(answers)}")


@case(
    "CHAT-SAMPLE-004", clause_id="sample.temperature", reason="a temperature that does not matter is ignored"
)
def test_temperature_matters(target: Target) -> None:
    """Of five answers at a high temperature without a seed at least two differ."""
    answers = {target.ask(STORY, TOKENS, temperature=HOT).text() for _ in range(5)}
    demand(len(answers) > 1, f"five answers at temperature {HOT} are all {shown(answers)}")


@case(
    "CHAT-SAMPLE-005",
    clause_id="sample.top-p",
    reason="a top_p that does not matter is ignored",
    confirm=True,
)
def test_small_top_p_is_greedy(target: Target) -> None:
    """With a top_p of 0.0001 the answer is that of temperature 0."""
    greedy = target.settled(STORY, TOKENS)
    nucleus = [target.ask(STORY, TOKENS, temperature=1, top_p=0.0001, seed=seed).text() for seed in (1, 2)]
    demand(
        greedy in nucleus,
        f"at temperature 0 the answer is {shown(greedy)}; with top_p 0.0001 it is {shown(nucleus, 400)}",
    )


@case("CHAT-SAMPLE-006", clause_id="sample.n-differ", reason="copies of one answer are of no use")
def test_choices_differ(target: Target) -> None:
    """At a high temperature the choices of n = 3 are not all the same."""
    answer = target.ask(STORY, TOKENS, temperature=HOT, n=3)
    if len(answer.choices) < 2:
        raise Unjudged("n = 3 brings one choice: see CHAT-SCHEMA-008")
    texts = {answer.text(index) for index in range(len(answer.choices))}
    demand(len(texts) > 1, f"all choices of n = 3 are {shown(texts)}")


@case(
    "CHAT-SAMPLE-007",
    clause_id="sample.seed-edges",
    reason="seeds are 64 bits wide, and JSON numbers are not",
)
def test_seeds_at_the_edges(target: Target) -> None:
    """What becomes of seeds at the edges of 64 bits."""
    statuses = [
        target.post(target.body(STORY, 2, seed=seed)).status for seed in (0, -1, 2**32, 2**63 - 1, -(2**63))
    ]
    raise Unjudged(f"seeds 0, -1, 2^32, 2^63-1, -2^63 get {statuses}")
