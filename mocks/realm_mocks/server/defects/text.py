"""Defects of the text: bytes cut inside characters, spaces lost, the request read in a wrong encoding."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from realm_mocks.server.errors import ApiError
from realm_mocks.server.generation import Generation
from realm_mocks.server.replies import Event
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.variation import State, Variation

Events = list[Event]


def _split_characters(_: ChatRequest, generation: Generation) -> list[str]:
    """Each token is decoded by itself: a character of two tokens becomes two replacement characters."""
    return [token.decode("utf-8", "replace") for token in generation.tokens]


def _trimmed(_: ChatRequest, generation: Generation) -> list[str]:
    return [piece.strip() for piece in generation.pieces]


def _dropped_bytes(_: ChatRequest, generation: Generation) -> list[str]:
    """What is not a whole character in its token is lost."""
    return [token.decode("utf-8", "ignore") for token in generation.tokens]


def _last_piece_lost(_: ChatRequest, generation: Generation) -> list[str]:
    """The text held back at the end never leaves."""
    return [*generation.pieces[:-1], ""]


def _repeats_slice(_: ChatRequest, generation: Generation) -> list[str]:
    """Incremental text is sliced as if it were cumulative."""
    return [piece[min(1, index) :] for index, piece in enumerate(generation.pieces)]


def _per_event(encode: Callable[[dict[str, Any]], bytes]) -> Callable[[ChatRequest, Events], Events]:
    def events_hook(_: ChatRequest, events: Events) -> Events:
        return [replace(e, data=None, raw=encode(e.data)) if e.data is not None else e for e in events]

    return events_hook


def _latin1(data: dict[str, Any]) -> bytes:
    text = json.dumps(data, ensure_ascii=False)
    return b"data: " + text.encode("latin-1", "ignore") + b"\n\n"


def _half_surrogates(_: ChatRequest, events: Events) -> Events:
    """A character outside the BMP is sent as two deltas, half a surrogate pair each."""
    bent: Events = []
    for event in events:
        bent.extend(_split_pair(event) or [event])
    return bent


def _split_pair(event: Event) -> Events | None:
    if event.data is None or not event.data["choices"]:
        return None
    delta = event.data["choices"][0]["delta"]
    text = delta.get("content") or ""
    at = next((i for i, character in enumerate(text) if ord(character) > 0xFFFF), None)
    if at is None:
        return None
    pair = json.dumps(text[at])[1:-1]
    halves = json.dumps(text[:at])[1:-1] + pair[:6], pair[6:] + json.dumps(text[at + 1 :])[1:-1]
    made: Events = []
    for half in halves:
        choice = {**event.data["choices"][0], "delta": {**delta, "content": "@@"}}
        line = json.dumps({**event.data, "choices": [choice]}).replace("@@", half)
        made.append(replace(event, data=None, raw=f"data: {line}\n\n".encode()))
        delta = {key: value for key, value in delta.items() if key != "role"}
    return made


def _body_latin1(raw: bytes) -> bytes:
    return raw.decode("latin-1").encode("utf-8")


def _body_first_kilobytes(raw: bytes) -> bytes:
    return raw[:2048]


def _nul_is_fatal(request: ChatRequest, _: State) -> ChatRequest:
    if "\0" in request.text:
        raise ApiError(500, "embedded null byte", type="server_error")
    return request


def _surrogate_is_fatal(request: ChatRequest, _: State) -> ChatRequest:
    try:
        request.text.encode("utf-8")
    except UnicodeEncodeError:
        raise ApiError(500, "surrogates not allowed", type="server_error") from None
    return request


def _every_fifth_flips(request: ChatRequest, generation: Generation, state: State) -> Generation:
    """One answer in five has a letter changed."""
    state.notes["answers"] = state.notes.get("answers", 0) + 1
    if state.notes["answers"] % 5:
        return generation
    flipped = tuple(piece.replace("e", "f").replace("a", "b") for piece in generation.pieces)
    return replace(generation, pieces=flipped)


DEFECTS = (
    Variation(
        "every-fifth-flips",
        "in one answer of five letters are changed",
        "a bad memory module",
        generation=_every_fifth_flips,
    ),
    Variation(
        "split-characters",
        "characters that span tokens are streamed as replacement characters",
        "ggml-org/llama.cpp#4036, mozilla-ai/llamafile#722",
        pieces=_split_characters,
    ),
    Variation(
        "dropped-bytes",
        "characters that span tokens are lost in the stream",
        "BerriAI/litellm#18842, abetlen/llama-cpp-python#372",
        pieces=_dropped_bytes,
    ),
    Variation(
        "stream-trims-spaces", "the stream trims each token's spaces", "realm-defects 17", pieces=_trimmed
    ),
    Variation(
        "stream-loses-last-piece",
        "the stream loses the last token's text",
        "realm-defects 23: the crossing chunk dropped",
        pieces=_last_piece_lost,
    ),
    Variation(
        "stream-slices-twice",
        "the stream slices text that is already incremental",
        "sgl-project/sglang#30188",
        pieces=_repeats_slice,
    ),
    Variation(
        "stream-latin1",
        "stream events are encoded in Latin-1",
        "RFC 8259 section 8.1",
        events=_per_event(_latin1),
    ),
    Variation(
        "half-surrogates",
        "an emoji is streamed as two halves of a surrogate pair",
        "ggml-org/llama.cpp#28926",
        events=_half_surrogates,
    ),
    Variation("body-latin1", "the request is read as Latin-1", "clause: JSON is UTF-8", body=_body_latin1),
    Variation(
        "body-cut",
        "only the first 2 KiB of the request are read",
        "realm-defects 13: capped at 10 KiB",
        body=_body_first_kilobytes,
    ),
    Variation("nul-fatal", "a NUL in the prompt is a 500", "realm-defects 13", request=_nul_is_fatal),
    Variation(
        "surrogate-fatal",
        "half a surrogate pair in the prompt is a 500",
        "llama-cpp-python: 'utf-8' codec can't encode",
        request=_surrogate_is_fatal,
    ),
)
