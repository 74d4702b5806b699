"""Every part of a request is read: each message, each parameter, and in a stream as for a whole answer."""

from __future__ import annotations

import json

from realm_harness.answers import Json, shown
from realm_harness.case import Unjudged, Unsupported, case, demand
from realm_harness.chapters.test_logprobs import alternatives, entries
from realm_harness.prompts import HELLO, STORY
from realm_harness.target import MODELS, Target

TOKENS = 12
WORDS = "The lighthouse stands on a rock far from the harbour, and nobody has been there for years."
STEERED: tuple[Json, ...] = (
    {"temperature": 1, "seed": 11},
    {"temperature": 0, "frequency_penalty": 2},
    {"temperature": 0, "presence_penalty": -2},
    {"temperature": 0, "logit_bias": {"260": 100}},
)


def turn(role: str, content: str | list[Json]) -> Json:
    """A message."""
    return {"role": role, "content": content}


def conversations(text: str) -> dict[str, list[Json]]:
    """Conversations that end with the same question and have a text somewhere before, by where it is."""
    parts = [{"type": "text", "text": text}, {"type": "text", "text": HELLO}]
    return {
        "a system message": [turn("system", text), turn("user", HELLO)],
        "an earlier turn": [turn("user", text), turn("assistant", "Yes."), turn("user", HELLO)],
        "a first text part": [turn("user", parts)],
        "a second text part": [turn("user", parts[::-1])],
    }


@case("CHAT-READ-001", clause_id="read.messages", reason="a rule in a lost message is broken")
def test_every_message_is_read(target: Target) -> None:
    """A longer system message, earlier turn or text part has more prompt tokens."""
    longer = conversations(WORDS)
    for name, messages in conversations("Hi.").items():
        if target.post(target.body(messages, 2)).status in (400, 422):
            continue  # refused by name, or by the model's template: nothing was lost
        short, long = (target.ask(one, 2) for one in (messages, longer[name]))
        if not short.usage:
            raise Unjudged("an answer has no usage: see CHAT-USAGE-001")
        counts = [one.count("prompt_tokens") for one in (short, long)]
        more = f"with {name} of {len(WORDS)} characters it has {counts[1]}"
        demand(counts[1] >= counts[0] + 5, f"a prompt has {counts[0]} tokens; {more}")


@case("CHAT-READ-002", clause_id="same.text", reason="a parameter must not need a whole answer", confirm=True)
def test_streams_are_steered_too(target: Target) -> None:
    """A seed, penalties and a bias make of a stream what they make of a whole answer."""
    judged = 0
    for params in STEERED:
        try:
            whole, again = (target.ask(STORY, TOKENS, **params).text() for _ in range(2))
        except Unsupported:
            continue
        if whole != again:
            continue
        judged += 1
        streamed = target.stream(STORY, TOKENS, **params).text()
        demand(streamed == whole, f"with {params} it is {shown(whole)} whole, {shown(streamed)} streamed")
    if not judged:
        raise Unjudged("no parameter gives the same answer twice")


@case("CHAT-READ-003", clause_id="stop.list", reason="OpenAI takes four", confirm=True)
def test_fourth_stop(target: Target) -> None:
    """The last of four stop strings ends the answer, whole and streamed."""
    whole = target.settled(STORY, 24)
    stop = whole[len(whole) // 2 :][:3]
    if len(stop) < 3:
        raise Unjudged(f"the answer is too short to be stopped: {shown(whole)}")
    stops, wanted = ["\x00one", "\x00two", "\x00three", stop], whole[: whole.index(stop)]
    found = target.ask(STORY, 24, temperature=0, stop=stops).text()
    streamed = target.stream(STORY, 24, temperature=0, stop=stops).text()
    for text in (found, streamed):
        demand(text == wanted, f"stopped at the fourth, {stop!r}, it is {shown(text)}, not {shown(wanted)}")


@case("CHAT-READ-004", clause_id="schema.n", reason="a program that asks for three answers reads the third")
def test_three_choices(target: Target) -> None:
    """n = 3 brings three choices."""
    indexes = [choice.get("index") for choice in target.ask(HELLO, 2, n=3).choices]
    demand(sorted(map(str, indexes)) == ["0", "1", "2"], f"n = 3 brings the indexes {indexes}")


@case("CHAT-READ-005", clause_id="logprobs.top-count", reason="20 is in the official range")
def test_twenty_alternatives(target: Target) -> None:
    """top_logprobs 20 brings twenty alternatives."""
    for entry in entries(target.ask(STORY, 3, temperature=0, logprobs=True, top_logprobs=20)):
        found = len(alternatives(entry))
        demand(found == 20, f"top_logprobs: 20 brings {found} alternatives")


@case("CHAT-READ-006", clause_id="read.seed", reason="seeds are counters, clocks and hashes", confirm=True)
def test_all_of_a_seed_is_read(target: Target) -> None:
    """Seed 0 is a seed, and seeds that differ by 2 to the power of 8, 16 or 31 are different ones."""

    def drawn(seed: int) -> str:
        return target.ask(STORY, TOKENS, temperature=1.5, seed=seed).text()

    nought = [drawn(0) for _ in range(3)]
    demand(len(set(nought)) == 1, f"three answers with seed 0: {shown(nought, 400)}")
    for power in (8, 16, 31):
        answers = {drawn(5 + k * 2**power) for k in range(3)}
        demand(len(answers) > 1, f"seeds that differ by 2**{power} all give {shown(answers)}")


@case("CHAT-READ-008", clause_id="read.seed-sign", reason="hashes are signed in many languages", confirm=True)
def test_sign_of_a_seed_is_read(target: Target) -> None:
    """A seed and its negative are two seeds."""

    def drawn(seed: int) -> str:
        return target.ask(STORY, TOKENS, temperature=1.5, seed=seed).text()

    pairs = [(drawn(seed), drawn(-seed)) for seed in (5, 6, 7)]
    demand(any(one != other for one, other in pairs), f"with seeds 5 and -5 it is {shown(pairs[0])}")


@case("CHAT-READ-007", clause_id="read.model", reason="clients look a model up before they use it")
def test_one_model(target: Target) -> None:
    """/v1/models/ID is the model of that id, and the list has each once."""
    try:
        names = [str(card["id"]) for card in json.loads(target.get(MODELS).body)["data"]]
    except (ValueError, KeyError, TypeError):
        raise Unjudged("the list of models has no ids: see CHAT-MODELS-001") from None
    demand(len(set(names)) == len(names), f"{MODELS} lists {shown(names)}")
    exchange = target.get(f"{MODELS}/{names[0]}") if names else None
    if exchange is None or exchange.status in (404, 405):
        raise Unsupported(f"the server has no {MODELS}/ID")
    said = exchange.body.decode("utf-8", "replace")
    try:
        made = json.loads(said)
    except ValueError:
        made = None
    told = made.get("id") if isinstance(made, dict) else None
    demand(told == names[0], f"{MODELS}/{names[0]} is {shown(said)}")
