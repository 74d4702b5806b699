"""Defects that show only when something is asked for: several choices, usage, entries of tokens, an edge."""

from __future__ import annotations

import copy
import html
import re
from collections.abc import Callable
from dataclasses import replace
from secrets import token_hex
from typing import Any

from realm_mocks.server.completions import Texts
from realm_mocks.server.generation import Generation
from realm_mocks.server.replies import DONE, Event
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.variation import State, Variation

Json = dict[str, Any]
Events = list[Event]
ASTRAL = re.compile("[\U00010000-\U0010ffff]")
"""Characters of four bytes in UTF-8, two units in UTF-16."""


def _on_chunks(bend: Callable[[ChatRequest, Json], None]) -> Callable[[ChatRequest, Events], Events]:
    """A hook that hands each chunk to `bend` to change in place."""

    def events_hook(request: ChatRequest, events: Events) -> Events:
        bent: Events = []
        for event in events:
            data = copy.deepcopy(event.data)
            if data is not None:
                bend(request, data)
            bent.append(replace(event, data=data))
        return bent

    return events_hook


def _role_once_for_all(_: ChatRequest, chunk: Json) -> None:
    for choice in chunk["choices"]:
        if choice["index"]:
            choice["delta"].pop("role", None)


def _last_begins(request: ChatRequest, events: Events) -> Events:
    """The choices begin in the order in which they were ready, and the last one was ready first."""
    of_last = (event for event in events if event.data and event.data["choices"][0]["index"] == request.n - 1)
    first = next(of_last)
    rest = [event for event in events if event is not first]
    return [replace(first, due=events[0].due), *rest]


def _swapped(request: ChatRequest, chunk: Json) -> None:
    for choice in chunk["choices"]:
        choice["index"] = request.n - 1 - choice["index"]


def _seed_for_one(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, seed=None) if request.n > 1 else request


def _first_choice_counted(request: ChatRequest, data: Json) -> Json:
    usage = data["usage"]
    counted = usage["completion_tokens"] // request.n
    total = usage["prompt_tokens"] + counted
    return {**data, "usage": {**usage, "completion_tokens": counted, "total_tokens": total}}


def _several_stop(request: ChatRequest, data: Json) -> Json:
    for choice in data["choices"]:
        choice["finish_reason"] = "stop" if request.n > 1 else choice["finish_reason"]
    return data


def _own_id_for_usage(_: ChatRequest, chunk: Json) -> None:
    if not chunk["choices"]:
        chunk["id"] = f"{chunk['id']}-usage"


def _constant_id(_: ChatRequest, chunk: Json) -> None:
    chunk["id"] = "chatcmpl-stream"


def _random_fingerprint(_: ChatRequest, data: Json) -> Json:
    return {**data, "system_fingerprint": f"fp_{token_hex(5)}"}


def _renamed(_: ChatRequest, data: Json) -> Json:
    return {**data, "model": f"models/{data['model']}.gguf"}


def _bytes_of_the_sampled(_: ChatRequest, generation: Generation, __: State) -> Generation:
    if generation.logprobs is None:
        return generation
    entries = copy.deepcopy(generation.logprobs)
    for entry in entries:
        for one in entry["top_logprobs"]:
            one["bytes"] = entry["bytes"]
    return replace(generation, logprobs=entries)


def _two_units(_: ChatRequest, generation: Generation, __: State) -> Generation:
    return replace(generation, pieces=tuple(ASTRAL.sub("\ufffd", piece) for piece in generation.pieces))


def _escaped(_: ChatRequest, generation: Generation) -> list[str]:
    return [html.escape(piece) for piece in generation.pieces]


def _stripped(_: ChatRequest, data: Json) -> Json:
    for choice in data["choices"]:
        choice["message"]["content"] = (choice["message"]["content"] or "").strip() or None
    return data


def _done_unless_counted(request: ChatRequest, events: Events) -> Events:
    return [event for event in events if not (request.include_usage and event.raw == DONE)]


def _ids_per_chunk(chunks: list[Json]) -> list[Json]:
    return [{**chunk, "id": f"{chunk['id']}-{number}"} for number, chunk in enumerate(chunks)]


def _total_is_completion(_: Texts, whole: Json) -> Json:
    usage = whole["usage"]
    return {**whole, "usage": {**usage, "total_tokens": usage["completion_tokens"]}}


def _constant_call_id(_: ChatRequest, generation: Generation, __: State) -> Generation:
    if generation.call is None:
        return generation
    return replace(generation, call={**generation.call, "id": "call_1"})


def _scores_of_others(_: Texts, whole: Json) -> Json:
    bent = copy.deepcopy(whole)
    for choice in bent["choices"]:
        told = (choice["logprobs"] or {}).get("token_logprobs", [])
        told[:] = [None if value is None else value - 0.1 for value in told]
    return bent


DEFECTS = (
    Variation(
        "n-role-once",
        "only the first of several choices is streamed with a role",
        "clause S3: of each choice",
        events=_on_chunks(_role_once_for_all),
    ),
    Variation(
        "n-last-begins",
        "a stream of several choices begins with the last",
        "openai-python's stream helper: IndexError",
        events=_last_begins,
    ),
    Variation(
        "n-seed-ignored", "a seed has no effect with n > 1", "vllm-project/vllm#51226", request=_seed_for_one
    ),
    Variation(
        "n-swapped",
        "a stream has the choices under each other's index",
        "clause S9: a stream is the whole answer",
        events=_on_chunks(_swapped),
    ),
    Variation(
        "n-usage-one",
        "completion_tokens are those of one choice",
        "clause: sums over n",
        whole=_first_choice_counted,
    ),
    Variation(
        "n-finish-stop",
        "several choices always finish with stop",
        "realm-defects 23",
        whole=_several_stop,
    ),
    Variation(
        "usage-chunk-own-id",
        "the chunk with usage has another id",
        "clause S5: one id",
        events=_on_chunks(_own_id_for_usage),
    ),
    Variation(
        "stream-id-constant",
        "every stream has the same id",
        "realm-defects 33: made-up ids",
        events=_on_chunks(_constant_id),
    ),
    Variation(
        "fingerprint-random",
        "each answer has another system_fingerprint",
        "openapi: it changes with the backend",
        whole=_random_fingerprint,
    ),
    Variation(
        "model-is-a-file",
        "answers name the model's file",
        "realm-defects 24",
        whole=_renamed,
    ),
    Variation(
        "alternatives-bytes",
        "the alternatives have the bytes of the token that was taken",
        "sgl-project/sglang#5761",
        generation=_bytes_of_the_sampled,
    ),
    Variation(
        "emoji-replaced",
        "characters of four bytes become U+FFFD",
        "ggml-org/llama.cpp#4036",
        generation=_two_units,
    ),
    Variation(
        "stream-html", "deltas are escaped as in HTML", "a web page's template in the way", pieces=_escaped
    ),
    Variation(
        "whole-stripped",
        "a whole answer loses the spaces at its edges",
        "realm-defects 17",
        whole=_stripped,
    ),
    Variation(
        "no-done-with-usage",
        "a stream with include_usage has no [DONE]",
        "TheTom/vllm-swift#19",
        events=_done_unless_counted,
    ),
    Variation(
        "texts-id-per-chunk",
        "each chunk of a text completion has an id of its own",
        "clause S5: one id",
        text_chunks=_ids_per_chunk,
    ),
    Variation(
        "texts-usage-total",
        "the total of a text completion leaves the prompt out",
        "clause: total is the sum",
        texts=_total_is_completion,
    ),
    Variation(
        "tools-id-constant", "every call has the same id", "realm-defects 33", generation=_constant_call_id
    ),
    Variation(
        "texts-scores-off",
        "token_logprobs are not those of the alternatives",
        "fms-guardrails-orchestrator#477",
        texts=_scores_of_others,
    ),
)
