"""Defects of the token counts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from realm_mocks.server.generation import Generation
from realm_mocks.server.replies import Event
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.variation import State, Variation

Json = dict[str, Any]
Events = list[Event]
ZERO = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def _ignored(_: ChatRequest, events: Events) -> Events:
    kept = [event for event in events if event.data is None or event.data["choices"]]
    return [
        replace(e, data={k: v for k, v in e.data.items() if k != "usage"} if e.data else None) for e in kept
    ]


def _every_chunk(request: ChatRequest, events: Events) -> Events:
    return _with_usage(events, dict(ZERO)) if request.include_usage else events


def _with_usage(events: Events, counts: Json) -> Events:
    return [
        replace(event, data={**event.data, "usage": event.data.get("usage") or counts})
        if event.data
        else event
        for event in events
    ]


def _appended(when: Callable[[ChatRequest], bool]) -> Callable[[ChatRequest, Events], Events]:
    """A usage chunk before [DONE] in streams that did not ask for one."""

    def events_hook(request: ChatRequest, events: Events) -> Events:
        if request.include_usage or not when(request):
            return events
        last = events[-2].data or {}
        counts = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        extra = Event(events[-1].due, {**last, "choices": [], "usage": counts})
        return [*events[:-1], extra, events[-1]]

    return events_hook


def _in_last_choice_chunk(request: ChatRequest, events: Events) -> Events:
    """The counts ride on the chunk with the finish reason instead of one of their own."""
    if not request.include_usage:
        return events
    counts = (events[-2].data or {})["usage"]
    finish = replace(events[-3], data={**(events[-3].data or {}), "usage": counts})
    return [*events[:-3], finish, events[-1]]


def _stream_zero(_: ChatRequest, events: Events) -> Events:
    bent = copy.deepcopy(events)
    for event in bent:
        if event.data and event.data.get("usage"):
            event.data["usage"] = dict(ZERO)
    return bent


def _words(_: ChatRequest, data: Json) -> Json:
    words = sum(len(choice["message"]["content"].split()) for choice in data["choices"])
    prompt = data["usage"]["prompt_tokens"]
    data["usage"] = {"prompt_tokens": prompt, "completion_tokens": words, "total_tokens": prompt + words}
    return data


def _total_is_completion(_: ChatRequest, data: Json) -> Json:
    data["usage"]["total_tokens"] = data["usage"]["completion_tokens"]
    return data


def _absent(_: ChatRequest, data: Json) -> Json:
    del data["usage"]
    return data


def _prompt_per_choice(request: ChatRequest, data: Json) -> Json:
    counts = data["usage"]
    counts["prompt_tokens"] *= request.n
    counts["total_tokens"] = counts["prompt_tokens"] + counts["completion_tokens"]
    return data


def _uncached_only(request: ChatRequest, generation: Generation, state: State) -> Generation:
    """A prompt that was seen before counts as one token."""
    seen = state.notes.setdefault("uncached-only", set())
    key = request.text
    counted = replace(generation, prompt_tokens=1) if key in seen else generation
    seen.add(key)
    return counted


def _prompt_constant(_: ChatRequest, generation: Generation, __: State) -> Generation:
    return replace(generation, prompt_tokens=10)


DEFECTS = (
    Variation(
        "usage-ignored",
        "include_usage is ignored",
        "ollama/ollama#4448, TheTom/vllm-swift#19",
        events=_ignored,
    ),
    Variation(
        "usage-every-chunk",
        "with include_usage every chunk brings counts, all zero",
        "vllm-project/vllm#7262, mudler/LocalAI#1744",
        events=_every_chunk,
    ),
    Variation(
        "usage-unasked",
        "every stream ends with a usage chunk, asked or not",
        "realm-defects 25",
        events=_appended(lambda _: True),
    ),
    Variation(
        "usage-on-empty-options",
        "stream_options: {} turns usage on",
        "vllm-project/vllm#36379",
        events=_appended(lambda request: request.stream_options is not None),
    ),
    Variation(
        "usage-on-finish-chunk",
        "the counts ride on the chunk with the finish reason",
        "openapi: one more chunk with empty choices",
        events=_in_last_choice_chunk,
    ),
    Variation(
        "stream-usage-zero", "a stream's counts are all zero", "mudler/LocalAI#1609", events=_stream_zero
    ),
    Variation("usage-in-words", "completion tokens are counted in words", "realm-defects 23", whole=_words),
    Variation(
        "usage-total",
        "total_tokens is not the sum",
        "clause: total = prompt + completion",
        whole=_total_is_completion,
    ),
    Variation(
        "usage-absent",
        "a whole answer has no usage",
        "huggingface/text-generation-inference#2336",
        whole=_absent,
    ),
    Variation(
        "usage-prompt-per-choice",
        "n choices count the prompt n times",
        "clause: the prompt is counted once",
        whole=_prompt_per_choice,
    ),
    Variation(
        "prompt-tokens-uncached",
        "a cached prompt is counted as one token",
        "clause: prompt_tokens does not depend on the cache",
        generation=_uncached_only,
    ),
    Variation(
        "prompt-tokens-constant", "prompt_tokens is made up", "realm-defects 31", generation=_prompt_constant
    ),
)
