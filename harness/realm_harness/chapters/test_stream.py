"""Streams on the wire: framing, the shape of chunks, finish reasons, the ending."""

from __future__ import annotations

from realm_harness.answers import Chunk, Json, Stream, is_done, shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.chapters.test_schema import FINISH_REASONS, is_integer
from realm_harness.exchange import Ending
from realm_harness.prompts import HELLO, LONG_ANSWERS, STORY
from realm_harness.target import Target, clock_ms

LEAST_TOKENS = 12
"""Fewer tokens than this do not show whether they came one by one."""

LEAST_MS = 120.0
"""A stream that is over sooner does not show it either."""


def choices(stream: Stream) -> list[tuple[Chunk, Json]]:
    """Each choice of each chunk; Broken when a chunk has no list of objects as its choices."""
    found = []
    for chunk in stream.chunks:
        listed = chunk.data.get("choices")
        demand(isinstance(listed, list), f"a chunk's choices is {shown(listed)}")
        demand(len(chunk.choices) == len(listed or []), f"a chunk's choices are no objects: {shown(listed)}")
        found += [(chunk, choice) for choice in chunk.choices]
    demand(found, "no chunk has a choice")
    return found


@case("CHAT-STREAM-001", clause_id="stream.type", reason="proxies buffer what is not labelled as a stream")
def test_content_type(target: Target) -> None:
    """A stream is labelled text/event-stream."""
    exchange = target.raw_stream(HELLO, 8).exchange
    kind = exchange.header("content-type")
    demand(exchange.media_type == "text/event-stream", f"the stream's Content-Type is {kind!r}")


@case(
    "CHAT-STREAM-002",
    clause_id="stream.events",
    reason="a client that parses each event stops at the first bad one",
)
def test_events_are_json(target: Target) -> None:
    """Each event is a JSON object or [DONE], in the lines of server-sent events."""
    stream = target.raw_stream(HELLO, 16)
    demand(
        stream.events, f"the stream has no event; its body begins with {shown(stream.exchange.body[:100])}"
    )
    demand(not stream.faults, f"the event stream is malformed: {'; '.join(stream.faults[:3])}")
    demand(
        not stream.strays,
        f"an event is neither a JSON object nor [DONE]: {shown((stream.strays or [''])[0])}",
    )


@case("CHAT-STREAM-003", clause_id="stream.unnamed", reason="browsers hand named events to nobody")
def test_events_have_no_name(target: Target) -> None:
    """Chunks are unnamed events."""
    names = {event.name for event in target.raw_stream(HELLO, 8).events} - {"", "message"}
    demand(not names, f"events have the name {', '.join(map(repr, sorted(names)))}")


@case("CHAT-STREAM-004", clause_id="stream.role-first", reason="clients make the message's role of it")
def test_role_comes_first(target: Target) -> None:
    """The first delta brings the role assistant."""
    deltas = target.stream(HELLO, 8).deltas()
    demand(deltas, "no chunk has a choice 0")
    demand(deltas[0].role == "assistant", f"the first delta's role is {shown(deltas[0].role)}")


@case(
    "CHAT-STREAM-005",
    clause_id="stream.role-once",
    reason="clients that join deltas make 'assistantassistant' of it",
)
def test_role_comes_once(target: Target) -> None:
    """Only the first delta brings a role."""
    deltas = target.stream(STORY, 8).deltas()
    again = [number for number, delta in enumerate(deltas) if number and delta.role]
    demand(not again, f"{len(again)} of {len(deltas)} deltas after the first bring a role again")


@case("CHAT-STREAM-006", clause_id="stream.chunk-keys", reason="typed clients require them")
def test_chunk_keys(target: Target) -> None:
    """Each chunk has id, object, created, model and choices."""
    for chunk in target.stream(HELLO, 8).chunks:
        missing = [key for key in ("id", "object", "created", "model", "choices") if key not in chunk.data]
        demand(not missing, f"a chunk has no {', '.join(missing)}: {shown(chunk.data)}")
        demand(isinstance(chunk.data["id"], str), f"a chunk's id is {shown(chunk.data['id'])}")
        demand(is_integer(chunk.data["created"]), f"a chunk's created is {shown(chunk.data['created'])}")


@case(
    "CHAT-STREAM-007",
    clause_id="stream.choice-keys",
    reason="clients fail on a key that is absent, not on null",
)
def test_choice_keys(target: Target) -> None:
    """Each choice of each chunk has index, delta and finish_reason."""
    for chunk, choice in choices(target.stream(HELLO, 8)):
        missing = [key for key in ("index", "delta", "finish_reason") if key not in choice]
        demand(not missing, f"a chunk's choice has no {', '.join(missing)}: {shown(chunk.data)}")
        demand(isinstance(choice["delta"], dict), f"a chunk's delta is {shown(choice['delta'])}")


@case("CHAT-STREAM-008", clause_id="stream.finish-enum", reason='clients take "" for an end')
def test_finish_reason_values(target: Target) -> None:
    """finish_reason is null until the end, and then one that OpenAI knows."""
    for _, choice in choices(target.stream(HELLO, 8)):
        reason = choice.get("finish_reason")
        known = reason is None or (isinstance(reason, str) and reason in FINISH_REASONS)
        demand(known, f"a chunk's finish_reason is {shown(reason)}")


@case("CHAT-STREAM-009", clause_id="stream.object", reason="clients tell chunks from whole answers by it")
def test_object(target: Target) -> None:
    """A chunk's object is chat.completion.chunk."""
    kinds = {str(chunk.data.get("object")) for chunk in target.stream(HELLO, 8).chunks}
    demand(kinds == {"chat.completion.chunk"}, f"the chunks' object is {', '.join(sorted(kinds))}")


@case("CHAT-STREAM-010", clause_id="stream.same-id", reason="clients gather the chunks of a stream by it")
def test_one_id(target: Target) -> None:
    """All chunks have the same id."""
    ids = [chunk.data.get("id") for chunk in target.stream(HELLO, 8).chunks]
    demand(len(set(map(str, ids))) == 1, f"the chunks of one stream have the ids {shown(ids)}")


@case("CHAT-STREAM-011", clause_id="stream.same-created", reason="an answer was made once")
def test_one_created(target: Target) -> None:
    """All chunks have the same created."""
    times = {str(chunk.data.get("created")) for chunk in target.stream(STORY, 24).chunks}
    demand(len(times) == 1, f"the chunks of one stream have created {', '.join(sorted(times))}")


@case(
    "CHAT-STREAM-012", clause_id="stream.same-model", reason="costs are booked under the model that answered"
)
def test_one_model(target: Target) -> None:
    """All chunks name the same model."""
    models = {str(chunk.data.get("model")) for chunk in target.stream(HELLO, 8).chunks}
    demand(len(models) == 1, f"the chunks of one stream name the models {', '.join(sorted(models))}")


@case(
    "CHAT-STREAM-013",
    clause_id="stream.one-finish",
    reason="a client that waits for the end waits for ever, or ends twice",
)
def test_one_finish_reason(target: Target) -> None:
    """The choice has exactly one finish reason."""
    stream = target.stream(HELLO, 8)
    reasons = [delta.finish for delta in stream.deltas() if delta.finish]
    demand(
        len(reasons) == 1,
        f"the stream has {len(reasons)} finish reasons {shown(reasons)}; it ended: {stream.exchange.ending}",
    )


@case(
    "CHAT-STREAM-014",
    clause_id="stream.nothing-after-finish",
    reason="a client that stopped at the end loses the text behind it",
)
def test_nothing_after_the_finish_reason(target: Target) -> None:
    """No text follows the finish reason."""
    deltas = target.stream(STORY, 8).deltas()
    ends = [number for number, delta in enumerate(deltas) if delta.finish]
    late = "".join(delta.content for delta in deltas[ends[0] + 1 :]) if ends else ""
    demand(not late, f"text follows the finish reason: {shown(late)}")


@case(
    "CHAT-STREAM-015",
    clause_id="stream.done-once",
    reason="strict clients report a broken connection without it; SDKs do not see it",
)
def test_ends_with_one_done(target: Target) -> None:
    """The stream has exactly one [DONE]."""
    stream = target.raw_stream(HELLO, 8)
    last = shown(stream.events[-1].data) if stream.events else "none"
    demand(len(stream.done) == 1, f"the stream has {len(stream.done)} [DONE]s; its last event is {last}")


@case(
    "CHAT-STREAM-016",
    clause_id="stream.done-last",
    reason="what follows [DONE] is read by nobody, or by the next request",
)
def test_done_is_last(target: Target) -> None:
    """Nothing follows the first [DONE]."""
    stream = target.raw_stream(HELLO, 8)
    if not stream.done:
        raise Unjudged("the stream has no [DONE]: see CHAT-STREAM-015")
    late = [event.data for event in stream.events[stream.done[0] + 1 :]]
    demand(not late and not stream.rest, f"[DONE] is followed by {shown(late or stream.rest)}")


@case(
    "CHAT-STREAM-017",
    clause_id="stream.clean-end",
    reason="a client cannot tell a cut stream from a short answer",
)
def test_body_ends_cleanly(target: Target) -> None:
    """The body ends as its framing says, behind a complete event."""
    stream = target.raw_stream(HELLO, 8)
    ending = stream.exchange.ending
    demand(
        ending in (Ending.COMPLETE, Ending.CLOSED),
        f"the stream's body ended: {ending} {stream.exchange.detail}",
    )
    demand(not stream.rest, f"the body ends inside an event: {shown(stream.rest)}")


@case("CHAT-STREAM-018", clause_id="stream.incremental", reason="a stream that comes at once is no stream")
def test_text_comes_as_it_is_generated(target: Target) -> None:
    """The first text comes well before the last."""
    shares = []
    for prompt in LONG_ANSWERS:
        stream = target.stream(prompt, 48)
        texts = [delta for delta in stream.deltas() if delta.content or delta.reasoning]
        took = clock_ms(stream.exchange.ended_ns, stream.exchange.sent_ns)
        if len(stream.text().split()) < LEAST_TOKENS or took < LEAST_MS:
            continue
        waited = clock_ms(texts[0].t_ns, stream.exchange.sent_ns) / took
        if waited <= 0.9:
            return
        shares.append(f"{waited:.0%} of {took:.0f} ms")
        if len(shares) == 2:
            break
    if len(shares) < 2:
        raise Unjudged(
            f"no answer was long and slow enough to see it ({LEAST_TOKENS} words, {LEAST_MS:g} ms)"
        )
    demand(False, f"the first text came after {' and '.join(shares)} of two streams")


@case(
    "CHAT-STREAM-019",
    clause_id="stream.n",
    reason="a [DONE] after each choice ends the stream for every client",
)
def test_two_choices(target: Target) -> None:
    """A stream of two choices finishes both, and has one [DONE]."""
    stream = target.stream(STORY, 8, n=2)
    if stream.indexes == [0] and len(target.ask(STORY, 8, n=2).choices) < 2:
        raise Unjudged("n = 2 brings one choice, whole or streamed: see CHAT-SCHEMA-008")
    demand(len(stream.done) <= 1, f"a stream of n = 2 has {len(stream.done)} [DONE]s")
    demand(stream.indexes == [0, 1], f"a stream of n = 2 has the choices {stream.indexes}")
    for index in (0, 1):
        ends = [delta.finish for delta in stream.deltas(index) if delta.finish]
        demand(len(ends) == 1, f"choice {index} has {len(ends)} finish reasons")
    demand(not stream.done or is_done(stream.events[-1]), "chunks follow the [DONE] of a stream of n = 2")


@case(
    "CHAT-STREAM-020", clause_id="stream.one-token", reason="the shortest stream is where ends are forgotten"
)
def test_one_token(target: Target) -> None:
    """A stream capped at one token has a finish reason and ends."""
    stream = target.stream(STORY, 1)
    demand(
        stream.finish() is not None,
        f"a stream of one token has no finish reason; it ended: {stream.exchange.ending}",
    )
    demand(stream.done, "a stream of one token has no [DONE]")
