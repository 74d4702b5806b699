"""Log probabilities of chat answers: their shape, their order, and that they are those of the text."""

from __future__ import annotations

import math

from realm_harness.answers import Answer, Json, Stream, shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.chapters.test_errors import refused
from realm_harness.prompts import HELLO, MULTIBYTE, STORY
from realm_harness.target import Target

TOKENS = 12
ROUNDING = 1e-3


def entries(answer: Answer | Stream, choice: int = 0) -> list[Json]:
    """The entries of `logprobs.content` of a choice, put together; Broken when there is no such list."""
    if isinstance(answer, Stream):
        found = [e for chunk in answer.chunks for e in chunk.choices if e.get("index") == choice]
        objects = [e["logprobs"] for e in found if e.get("logprobs") is not None]
        demand(objects, "no chunk of a stream that asked for them has `logprobs`")
    else:
        objects = [answer.choices[choice].get("logprobs")] if answer.choices else [None]
    made: list[Json] = []
    for one in objects:
        content = one.get("content") if isinstance(one, dict) else None
        listed = isinstance(content, list) and all(isinstance(entry, dict) for entry in content)
        demand(listed, f"`logprobs` is {shown(one)} in place of an object with the list `content`")
        made += content or []
    return made


def asked(target: Target, top: int | None = None, prompt: str = STORY) -> list[Json]:
    """The entries of a short greedy answer; Unjudged when it has none."""
    more = {} if top is None else {"top_logprobs": top}
    found = entries(target.ask(prompt, TOKENS, temperature=0, logprobs=True, **more))
    if not found:
        raise Unjudged("an answer with logprobs has no entry: see CHAT-LOGPROBS-001")
    return found


def number(entry: Json) -> float:
    """The logprob of an entry; Broken when it is no number."""
    value = entry.get("logprob")
    good = isinstance(value, int | float) and not isinstance(value, bool)
    demand(good, f"an entry's logprob is {shown(value)}")
    return float(value or 0)


def alternatives(entry: Json) -> list[Json]:
    """The `top_logprobs` of an entry; Broken when they are no list of objects."""
    top = entry.get("top_logprobs")
    demand(isinstance(top, list), f"an entry's top_logprobs is {shown(top)}")
    return [one for one in top or [] if isinstance(one, dict)]


def is_bytes(value: object) -> bool:
    """Whether a value is what `bytes` of an entry may be."""
    listed = value if isinstance(value, list) else []
    return value is None or (listed == value and all(type(b) is int and 0 <= b < 256 for b in listed))


@case("CHAT-LOGPROBS-001", clause_id="logprobs.present", reason="a flag without effect misleads evaluations")
def test_logprobs_are_there(target: Target) -> None:
    """logprobs: true brings logprobs.content with entries."""
    answer = target.ask(STORY, TOKENS, temperature=0, logprobs=True)
    demand(entries(answer) or not answer.text(), "logprobs.content is empty, and the answer is not")


@case("CHAT-LOGPROBS-002", clause_id="logprobs.entry", reason="typed clients require the keys")
def test_entries_have_their_keys(target: Target) -> None:
    """Each entry has token, logprob, bytes and top_logprobs."""
    for entry in asked(target, 2):
        for one in (entry, *alternatives(entry)):
            missing = [key for key in ("token", "logprob", "bytes") if key not in one]
            demand(not missing, f"an entry has no {', '.join(missing)}: {shown(one)}")
            demand(isinstance(one["token"], str), f"an entry's token is {shown(one['token'])}")
            raw = one["bytes"]
            demand(is_bytes(raw), f"an entry's bytes are {shown(raw)}, neither a list of bytes nor null")


@case("CHAT-LOGPROBS-003", clause_id="logprobs.count", reason="a score is divided by the number of tokens")
def test_one_entry_a_token(target: Target) -> None:
    """There are as many entries as completion tokens, or one fewer for the token that ended the text."""
    answer = target.ask(STORY, TOKENS, temperature=0, logprobs=True)
    found, tokens = len(entries(answer)), answer.count("completion_tokens")
    fine = found == tokens or (answer.finish() == "stop" and abs(tokens - found) == 1)
    demand(fine, f"{tokens} completion tokens have {found} entries")


@case("CHAT-LOGPROBS-004", clause_id="logprobs.bytes", reason="only bytes can be put together to characters")
def test_bytes_make_the_text(target: Target) -> None:
    """The bytes of all entries are those of the content."""
    for prompt in (STORY, MULTIBYTE[0]):
        answer = target.ask(prompt, TOKENS, temperature=0, logprobs=True)
        found = entries(answer)
        if not all("bytes" in entry and is_bytes(entry["bytes"]) for entry in found):
            raise Unjudged("entries have no bytes: see CHAT-LOGPROBS-002")
        raw = b"".join(bytes(entry["bytes"] or ()) for entry in found)
        text = raw.decode("utf-8", "replace")
        demand(
            text.strip() == answer.text().strip(),
            f"the entries' bytes are {shown(text)}, the content is {shown(answer.text())}",
        )


@case("CHAT-LOGPROBS-005", clause_id="logprobs.range", reason="a logarithm of a probability is not above 0")
def test_logprobs_are_logarithms_of_probabilities(target: Target) -> None:
    """No logprob is above 0, and the alternatives' probabilities come to 1 at most."""
    for entry in asked(target, 5):
        values = [number(one) for one in (entry, *alternatives(entry))]
        demand(max(values) <= ROUNDING, f"an entry has the logprob {max(values)}: {shown(entry)}")
        total = sum(math.exp(number(one)) for one in alternatives(entry))
        demand(total <= 1 + ROUNDING, f"the alternatives' probabilities come to {total}: {shown(entry)}")


@case("CHAT-LOGPROBS-006", clause_id="logprobs.top-count", reason="k is what the client has room for")
def test_top_logprobs_has_k_entries(target: Target) -> None:
    """Each entry has top_logprobs alternatives, none for 0."""
    for count in (0, 3):
        for entry in asked(target, count):
            found = len(alternatives(entry))
            demand(found == count, f"top_logprobs: {count} brings {found} alternatives: {shown(entry)}")


@case("CHAT-LOGPROBS-007", clause_id="logprobs.top-sorted", reason="clients take the first for the best")
def test_top_logprobs_are_sorted(target: Target) -> None:
    """The alternatives are sorted, the likeliest first."""
    for entry in asked(target, 5):
        values = [number(one) for one in alternatives(entry)]
        demand(values == sorted(values, reverse=True), f"the alternatives are not sorted: {shown(values)}")


@case(
    "CHAT-LOGPROBS-008",
    clause_id="logprobs.own-alternatives",
    reason="alternatives of another token make every entropy wrong",
)
def test_greedy_token_is_its_best_alternative(target: Target) -> None:
    """At temperature 0 each token is the first of its own alternatives."""
    for entry in asked(target, 2):
        top = alternatives(entry)
        if not top:
            raise Unjudged("there are no alternatives: see CHAT-LOGPROBS-006")
        tied = abs(number(top[0]) - number(entry)) <= ROUNDING
        demand(
            tied and entry["token"] in [one.get("token") for one in top],
            f"the token {shown(entry.get('token'))} ({number(entry)}) has the alternatives {shown(top)}",
        )


@case(
    "CHAT-LOGPROBS-009",
    clause_id="logprobs.stream",
    reason="a flag that works only without a stream surprises",
    confirm=True,
)
def test_streamed_logprobs_are_those_of_the_whole(target: Target) -> None:
    """A stream brings the entries of the whole answer, in order."""
    params = {"temperature": 0, "logprobs": True, "top_logprobs": 1}
    whole, stream = target.ask(STORY, TOKENS, **params), target.stream(STORY, TOKENS, **params)
    expected, came = entries(whole), entries(stream)
    if stream.text() != whole.text():
        raise Unjudged("stream and whole answer differ: see CHAT-SAME-001")
    told = [entry.get("token") for entry in expected], [entry.get("token") for entry in came]
    demand(
        told[0] == told[1], f"the whole answer has the tokens {shown(told[0])}, the stream {shown(told[1])}"
    )
    for one, other in zip(expected, came, strict=True):
        same = abs(number(one) - number(other)) <= 0.05
        demand(same, f"the token {shown(one['token'])} has {number(one)} whole and {number(other)} streamed")


@case("CHAT-LOGPROBS-010", clause_id="logprobs.unasked", reason="nobody pays for bytes that nobody wants")
def test_no_logprobs_unasked(target: Target) -> None:
    """Without logprobs: true there are none."""
    for params in ({}, {"logprobs": False}):
        choices = target.ask(HELLO, 4, **params).choices
        found = choices[0].get("logprobs") if choices else None
        content = found.get("content") if isinstance(found, dict) else None
        demand(not content, f"an answer that asked {params or 'nothing'} has logprobs {shown(found)}")


@case("CHAT-LOGPROBS-011", clause_id="logprobs.top-range", reason="the official range ends at 20")
def test_top_logprobs_above_twenty(target: Target) -> None:
    """top_logprobs above 20 or below 0 are refused with a 4xx."""
    for count in (21, -1):
        body = target.body(HELLO, 4, logprobs=True, top_logprobs=count)
        refused(target, body, f"`top_logprobs`: {count}")


@case("CHAT-LOGPROBS-012", clause_id="logprobs.top-alone", reason="it has no effect, so it is a mistake")
def test_top_logprobs_without_logprobs(target: Target) -> None:
    """top_logprobs without logprobs: true is refused with a 4xx."""
    refused(target, target.body(HELLO, 4, top_logprobs=2), "`top_logprobs` without `logprobs`")
