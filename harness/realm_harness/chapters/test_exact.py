"""Small things that are told twice and agree, and streams that end well whatever was asked of them."""

from __future__ import annotations

import json
from typing import Any

from realm_harness.answers import Answer, Json, shown
from realm_harness.case import Unjudged, Unsupported, case, demand
from realm_harness.chapters.test_completions import answered, complete, scores
from realm_harness.chapters.test_logprobs import ROUNDING, alternatives, asked, entries, is_bytes
from realm_harness.chapters.test_tokenize import ids_of
from realm_harness.prompts import HELLO, MULTIBYTE, OPENING, STORY
from realm_harness.sse import Parser
from realm_harness.target import MODELS, Target

USAGE = {"include_usage": True}
FUNCTION = {"name": "look_up", "parameters": {"type": "object", "properties": {}}}
VARIANTS: tuple[Json, ...] = (
    {"n": 2},
    {"stream_options": USAGE},
    {"stop": ["the", "a"]},
    {"logprobs": True},
    {"seed": 3, "temperature": 1},
    {"response_format": {"type": "json_object"}},
    {"tools": [{"type": "function", "function": FUNCTION}]},
)
MARKUP = """Repeat exactly: <a href="x">R&D's</a> && "quoted" \\n \\ {"k": 'v'} %20 &amp; a+b=c?"""
"""What is written otherwise in HTML, in addresses and in JSON."""


def answers_of(target: Target, count: int) -> list[Answer]:
    """Short answers, one after the other."""
    return [target.ask(HELLO, 2) for _ in range(count)]


@case("CHAT-EXACT-001", clause_id="exact.usage-chunk", reason="clients gather the chunks of a stream by it")
def test_usage_chunk_is_of_the_stream(target: Target) -> None:
    """The chunk with usage has the id, object, created and model of the others."""
    stream = target.stream(STORY, 8, stream_options=USAGE)
    if not stream.usages or len(stream.chunks) < 2:
        raise Unjudged("the stream has no chunk with usage: see CHAT-USAGE-007")
    first, last = stream.chunks[0].data, stream.usages[-1].data
    for key in ("id", "object", "created", "model"):
        one, other = first.get(key), last.get(key)
        demand(one == other, f"`{key}` is {shown(one)} in the first chunk, {shown(other)} in that with usage")


@case("CHAT-EXACT-002", clause_id="exact.stream-id", reason="logs and caches are keyed by it")
def test_streams_have_ids_of_their_own(target: Target) -> None:
    """Three streams have three ids, none of them that of a whole answer."""
    ids = [str(target.stream(HELLO, 2).chunks[0].data.get("id")) for _ in range(3)]
    ids.append(str(target.ask(HELLO, 2).data.get("id")))
    demand(len(set(ids)) == 4, f"three streams and a whole answer have the ids {shown(ids)}")


@case("CHAT-EXACT-003", clause_id="exact.fingerprint", reason="it says whether a seed still means the same")
def test_fingerprint_is_steady(target: Target) -> None:
    """A stream has one system_fingerprint, and of six answers not each has another."""
    key = "system_fingerprint"
    inside = {str(chunk.data.get(key)) for chunk in target.stream(HELLO, 8).chunks if chunk.data.get(key)}
    demand(len(inside) <= 1, f"the chunks of one stream have the fingerprints {shown(sorted(inside))}")
    told = [str(answer.data[key]) for answer in answers_of(target, 6) if answer.data.get(key)]
    demand(len(told) < 2 or len(set(told)) < len(told), f"each answer has another {key}: {shown(told)}")


@case("CHAT-EXACT-004", clause_id="exact.model", reason="costs are booked under the model that answered")
def test_answer_names_a_model_that_is_there(target: Target) -> None:
    """The model of an answer is the one that was asked for, or one of the list, or a version of one."""
    try:
        listed = [str(card["id"]) for card in json.loads(target.get(MODELS).body)["data"]]
    except (ValueError, KeyError, TypeError):
        listed = []
    (answer,) = answers_of(target, 1)
    told, known = str(answer.data.get("model")), [target.model, *listed]
    fine = any(told.startswith(name) or name.startswith(told) for name in known)
    demand(fine and told, f"`model` is {shown(told)}, asked for was {shown(target.model)} of {shown(listed)}")


@case("CHAT-EXACT-005", clause_id="exact.token-bytes", reason="one is shown, the other joined")
def test_tokens_are_their_bytes(target: Target) -> None:
    """Where the bytes of an entry or an alternative are whole characters, its token is their text."""
    for entry in asked(target, 5):
        for one in (entry, *alternatives(entry)):
            raw, token = one.get("bytes"), one.get("token")
            if not isinstance(raw, list) or not is_bytes(raw) or "\ufffd" in str(token):
                continue
            try:
                text = bytes(raw).decode()
            except ValueError:
                continue
            demand(text == token, f"the token {shown(token)} has the bytes of {shown(text)}")


@case(
    "CHAT-EXACT-006",
    clause_id="exact.bytes-content",
    reason="a character that became another is found by nobody",
)
def test_characters_are_those_of_the_tokens(target: Target) -> None:
    """In answers with characters of several bytes, the content is what the entries' bytes say."""
    for prompt in MULTIBYTE:
        answer = target.ask(prompt, 48, temperature=0, logprobs=True)
        found = entries(answer)
        if not found or not all(isinstance(e.get("bytes"), list) and is_bytes(e["bytes"]) for e in found):
            raise Unjudged("entries have no bytes: see CHAT-LOGPROBS-002")
        raw = b"".join(bytes(entry["bytes"]) for entry in found).decode("utf-8", "replace")
        told = answer.text()
        same = told.strip().rstrip("\ufffd") == raw.strip().rstrip("\ufffd")
        demand(same, f"the content is {shown(told, 400)}, the entries' bytes are {shown(raw, 400)}")


@case("CHAT-EXACT-007", clause_id="same.text", reason="code is full of them", confirm=True)
def test_markup_is_left_alone(target: Target) -> None:
    """Quotes, angle brackets and ampersands are streamed as the whole answer has them."""
    whole = target.settled(MARKUP, 48)
    streamed = target.stream(MARKUP, 48, temperature=0).text()
    demand(
        streamed == whole, f"the whole answer is {shown(whole, 400)}, the deltas are {shown(streamed, 400)}"
    )


@case("CHAT-EXACT-008", clause_id="same.text", reason="they are code's indentation", confirm=True)
def test_edges_are_left_alone(target: Target) -> None:
    """Cut after 7 to 12 tokens, a whole answer ends with the same spaces as the stream."""
    for tokens in range(7, 13):
        whole = target.ask(OPENING, tokens, temperature=0).text()
        streamed = target.stream(OPENING, tokens, temperature=0).text()
        ends = shown(whole[-30:]), shown(streamed[-30:])
        demand(streamed == whole, f"cut at {tokens} tokens the end is {ends[0]} whole, {ends[1]} streamed")


@case(
    "CHAT-EXACT-009",
    clause_id="stream.done-once",
    reason="a client that waits for the end waits for it whatever it asked",
)
def test_every_stream_ends(target: Target) -> None:
    """A stream ends with one [DONE] and one finish reason for each choice, whatever was asked of it."""
    for params in VARIANTS:
        try:
            stream = target.stream(STORY, 8, **params)
        except Unsupported:
            continue
        asked_for = f"a stream with {shown(params)}"
        demand(len(stream.done) == 1, f"{asked_for} has {len(stream.done)} [DONE]s")
        for index in stream.indexes:
            ends = [delta.finish for delta in stream.deltas(index) if delta.finish]
            demand(len(ends) == 1, f"{asked_for} has the finish reasons {shown(ends)} in choice {index}")


def text_chunks(target: Target, **params: Any) -> tuple[str, list[Json]]:
    """The type of a stream of /v1/completions, and its chunks."""
    exchange = answered(target, stream=True, **params)
    parser = Parser()
    data = [event.data for t_ns, part in exchange.segments for event in parser.feed(part, t_ns)]
    try:
        made = [json.loads(one) for one in data if one.startswith("{")]
    except ValueError:
        made = []
    if not made:
        raise Unjudged("the stream has no chunks: see CHAT-COMPLETIONS-004")
    return exchange.header("content-type") or "", made


@case("CHAT-EXACT-010", clause_id="exact.text-chunks", reason="typed clients require the keys")
def test_chunks_of_texts(target: Target) -> None:
    """A stream of /v1/completions is labelled as one; its chunks share id, object, created and model."""
    kind, chunks = text_chunks(target)
    demand(kind.startswith("text/event-stream"), f"the stream is labelled {shown(kind)}")
    demand(chunks[0].get("object") == "text_completion", f"`object` is {shown(chunks[0].get('object'))}")
    for key in ("id", "object", "created", "model"):
        values = {str(chunk.get(key)) for chunk in chunks}
        demand(key in chunks[0] and len(values) == 1, f"the chunks' `{key}` is {shown(sorted(values))}")
    listed = [chunk.get("choices") for chunk in chunks]
    found = [one for made in listed if isinstance(made, list) for one in made if isinstance(one, dict)]
    ends = [one.get("finish_reason", "none") for one in found]
    fine = all(end in (None, "stop", "length", "content_filter") for end in ends)
    demand(fine, f"the chunks' finish reasons are {shown(ends)}")


def sums(usage: Any) -> bool:
    """Whether the three counts are there and agree."""
    counts = [usage.get(k) for k in ("prompt_tokens", "completion_tokens", "total_tokens")]
    return all(type(count) is int for count in counts) and counts[0] + counts[1] == counts[2]


@case("CHAT-EXACT-011", clause_id="exact.text-usage", reason="costs are booked by it")
def test_usage_of_texts(target: Target) -> None:
    """/v1/completions counts the ids of a prompt, or one more, and its total is the sum."""
    ids = ids_of(target, OPENING)
    for prompt, n in ((ids, 1), (ids[:3], 2)):
        usage, size = complete(target, prompt=prompt, n=n).get("usage"), len(prompt)
        demand(isinstance(usage, dict) and sums(usage), f"usage is {shown(usage)}")
        told = dict(usage or {})["prompt_tokens"]
        demand(told in (size, size + 1), f"a prompt of {size} ids has {told} prompt tokens: {shown(usage)}")


@case("CHAT-EXACT-012", clause_id="exact.call-id", reason="a tool's result is matched to its call by it")
def test_calls_have_ids_of_their_own(target: Target) -> None:
    """Calls of functions in two answers have two ids."""
    tools, ids = [{"type": "function", "function": FUNCTION}], []
    for _ in range(2):
        message = target.ask(HELLO, 64, tools=tools, tool_choice="required").message()
        calls = message.get("tool_calls")
        ids += [str(one.get("id")) for one in calls or [] if isinstance(one, dict)]
    if len(ids) < 2:
        raise Unjudged("no function was called: see CHAT-TOOLS-001")
    demand(len(set(ids)) == len(ids), f"the calls of two answers have the ids {shown(ids)}")


@case(
    "CHAT-EXACT-013",
    clause_id="logprobs.own-alternatives",
    reason="a score against other alternatives is wrong",
)
def test_text_scores_are_those_of_the_best(target: Target) -> None:
    """At temperature 0 each token of a text has the log probability of the best alternative."""
    lists, _ = scores(target, logprobs=1)
    for token, told, top in zip(lists["tokens"], lists["token_logprobs"], lists["top_logprobs"], strict=True):
        values = [value for value in top.values() if is_number(value)] if isinstance(top, dict) else []
        if values and is_number(told):
            same = abs(max(values) - told) <= ROUNDING
            demand(same, f"the token {shown(token)} has {told}, its alternatives are {shown(top)}")


def is_number(value: object) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
