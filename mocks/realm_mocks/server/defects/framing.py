"""Defects of the SSE framing: what the bytes of a stream look like and how it ends."""

from __future__ import annotations

import json
from dataclasses import replace

from realm_mocks.server.replies import DONE, Event, Reply
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.schedule import Schedule
from realm_mocks.server.variation import Variation

Events = list[Event]


def _no_done(_: ChatRequest, events: Events) -> Events:
    return [event for event in events if event.raw != DONE]


def _done_twice(_: ChatRequest, events: Events) -> Events:
    return [*events, events[-1]]


def _done_per_choice(_: ChatRequest, events: Events) -> Events:
    bent: Events = []
    for event in events[:-1]:
        bent.append(event)
        if any(choice["finish_reason"] for choice in (event.data or {}).get("choices", [])):
            bent.append(replace(events[-1], due=event.due))
    return bent


def _bytes_after_done(_: ChatRequest, events: Events) -> Events:
    return [*events, Event(events[-1].due, raw=b'data: {"timings": {"total_ms": 12}}\n\n')]


def _named_events(_: ChatRequest, events: Events) -> Events:
    return [
        event
        if event.data is None
        else replace(event, data=None, raw=b"event: data\n" + b"".join(event.writes()))
        for event in events
    ]


def _python_literals(_: ChatRequest, events: Events) -> Events:
    return [
        event if event.data is None else replace(event, data=None, raw=f"data: {event.data!r}\n\n".encode())
        for event in events
    ]


def _pretty_json(_: ChatRequest, events: Events) -> Events:
    """Line breaks inside the JSON without `data:` on each line: the parser sees half an object."""
    return [
        event
        if event.data is None
        else replace(event, data=None, raw=f"data: {json.dumps(event.data, indent=1)}\n\n".encode())
        for event in events
    ]


def _last_event_unfinished(_: ChatRequest, events: Events) -> Events:
    return [*events[:-1], replace(events[-1], raw=b"data: [DONE]")]


def _cut_before_end(_: ChatRequest, events: Events) -> Events:
    return events[: max(1, len(events) // 2)]


def _buffered(_: ChatRequest, events: Events) -> Events:
    return [replace(event, due=events[-1].due) for event in events]


def _as_json(path: str, reply: Reply) -> Reply:
    stream = reply.content_type.startswith("text/event-stream")
    return replace(reply, content_type="application/json") if stream else reply


DEFECTS = (
    Variation("no-done", "the stream ends without [DONE]", "ikawrakow/ik_llama.cpp#467", events=_no_done),
    Variation("done-twice", "[DONE] comes twice", "vllm-project/vllm#378", events=_done_twice),
    Variation(
        "done-per-choice",
        "[DONE] comes after each choice, not once for the request",
        "vllm-project/vllm#378",
        events=_done_per_choice,
    ),
    Variation(
        "bytes-after-done",
        "an event with timings follows [DONE]",
        "clause S8: [DONE] is the last",
        events=_bytes_after_done,
    ),
    Variation("named-events", "chunks are sent as named events", "mudler/LocalAI#340", events=_named_events),
    Variation(
        "python-literals",
        "chunks are Python literals, not JSON",
        "a str(dict) in place of json.dumps",
        events=_python_literals,
    ),
    Variation(
        "pretty-json",
        "the JSON of an event is broken over lines without `data:` on each",
        "clause S2: one JSON object an event",
        events=_pretty_json,
    ),
    Variation(
        "last-event-unfinished",
        "the connection ends in the middle of the last event",
        "ggml-org/llama.cpp#11738",
        events=_last_event_unfinished,
    ),
    Variation(
        "cut-in-the-middle",
        "the stream breaks off half-way with no finish reason",
        "unslothai/llama.cpp#202",
        events=_cut_before_end,
    ),
    Variation(
        "buffered",
        "streaming starts only when the whole answer is there",
        "vllm-project/vllm#28134, realm-defects 26",
        schedule=Schedule(ttft=0.01, itl=0.01),
        events=_buffered,
    ),
    Variation(
        "stream-content-type",
        "a stream is labelled application/json",
        "clause S1: text/event-stream",
        reply=_as_json,
    ),
)
