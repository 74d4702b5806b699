"""Innocent habits of real servers: they differ from OpenAI's, break no clause, and must not be accused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from realm_mocks.server.replies import DONE, Event, Reply
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.variation import Variation

Events = list[Event]
Json = dict[str, Any]


def _bytes_of(bend: Callable[[bytes], bytes | tuple[bytes, ...]]) -> Callable[[ChatRequest, Events], Events]:
    """A hook on the bytes of each event."""

    def events_hook(_: ChatRequest, events: Events) -> Events:
        return [replace(event, data=None, raw=bend(b"".join(event.writes()))) for event in events]

    return events_hook


def _chunks(bend: Callable[[int, Json], Json]) -> Callable[[ChatRequest, Events], Events]:
    def events_hook(_: ChatRequest, events: Events) -> Events:
        return [
            event if event.data is None else replace(event, data=bend(number, event.data))
            for number, event in enumerate(events)
        ]

    return events_hook


def _ascii_json(_: ChatRequest, events: Events) -> Events:
    return [
        event
        if event.data is None
        else replace(event, data=None, raw=f"data: {json.dumps(event.data)}\n\n".encode())
        for event in events
    ]


def _bytewise(raw: bytes) -> tuple[bytes, ...]:
    return tuple(raw[start : start + 7] for start in range(0, len(raw), 7))


def _one_write(_: ChatRequest, events: Events) -> Events:
    """What is due at the same time leaves in one write: several events in one segment."""
    together: dict[float, bytes] = {}
    for event in events:
        together[event.due] = together.get(event.due, b"") + b"".join(event.writes())
    return [Event(due, raw=raw) for due, raw in together.items()]


def _no_null_usage(_: int, data: Json) -> Json:
    return {k: v for k, v in data.items() if k != "usage" or v is not None}


def _first_delta(content: str | None) -> Callable[[ChatRequest, Events], Events]:
    """The role has a chunk of its own, with this content."""

    def events_hook(_: ChatRequest, events: Events) -> Events:
        bent: Events = []
        for event in events:
            choices = (event.data or {}).get("choices", [])
            if event.data is None or not choices or "role" not in choices[0]["delta"]:
                bent.append(event)
                continue
            text = choices[0]["delta"]["content"]
            delta = {"role": "assistant", "content": content}
            roles = [{**choices[0], "delta": delta, "logprobs": None}]
            texts = [{**choices[0], "delta": {"content": text}}]
            bent.append(replace(event, data={**event.data, "choices": roles}, token=None))
            bent.append(replace(event, data={**event.data, "choices": texts}))
        return bent

    return events_hook


def _extra_fields(number: int, data: Json) -> Json:
    choices = [{**choice, "stop_reason": None, "token_ids": [number]} for choice in data["choices"]]
    return {
        **data,
        "choices": choices,
        "timings": {"predicted_n": number},
        "provider": "mock",
        "obfuscation": "x",
    }


def _content_null_at_end(_: int, data: Json) -> Json:
    bent = [{**c, "delta": c["delta"] or {"content": None}} for c in data["choices"]]
    return {**data, "choices": bent}


def _content_empty_at_end(_: int, data: Json) -> Json:
    bent = [{**c, "delta": c["delta"] or {"content": ""}} for c in data["choices"]]
    return {**data, "choices": bent}


def _finish_with_last_text(_: ChatRequest, events: Events) -> Events:
    """The finish reason rides on the last token's chunk."""
    bent: Events = []
    for event in events:
        choices = (event.data or {}).get("choices", [])
        last = bent[-1].data if bent else None
        same = bool(
            last and choices and last["choices"] and last["choices"][0]["index"] == choices[0]["index"]
        )
        if choices and choices[0]["finish_reason"] and same and last:
            merged = {**last["choices"][0], "finish_reason": choices[0]["finish_reason"]}
            bent[-1] = replace(bent[-1], data={**last, "choices": [merged]})
        else:
            bent.append(event)
    return bent


def _bare_whole(_: ChatRequest, data: Json) -> Json:
    """Optional keys are left out, unknown ones put in."""
    choices = [
        {
            "index": c["index"],
            "message": {key: c["message"][key] for key in c["message"] if key != "refusal"},
            "finish_reason": c["finish_reason"],
            **({"logprobs": c["logprobs"]} if c["logprobs"] else {}),
        }
        for c in data["choices"]
    ]
    kept = {key: value for key, value in data.items() if key != "system_fingerprint"}
    return {**kept, "choices": choices, "timings": {"prompt_ms": 1.5}}


def _no_metrics(path: str, reply: Reply) -> Reply:
    return Reply(404, {"detail": "Not Found"}) if path == "/metrics" else reply


def _bare_refusals(path: str, reply: Reply) -> Reply:
    if reply.status not in (200, 429):
        return reply
    extra = ("x-ratelimit-", "retry-after-ms")
    kept = {name: value for name, value in reply.headers.items() if not name.lower().startswith(extra)}
    return replace(reply, headers=kept)


HABIT_LIST = (
    Variation("no-metrics", "no page of metrics", "Ollama", reply=_no_metrics),
    Variation(
        "comments",
        "keep-alive comments before events",
        "vLLM and llama.cpp: SSE ping",
        events=_bytes_of(lambda raw: b": ping\n\n" + raw),
    ),
    Variation(
        "comment-lines",
        "a comment line before each data line",
        "WHATWG: comments are ignored",
        events=_bytes_of(lambda raw: b":\n" + raw),
    ),
    Variation(
        "crlf",
        "lines end with CR LF",
        "WHATWG: any of CR LF, LF, CR",
        events=_bytes_of(lambda raw: raw.replace(b"\n", b"\r\n")),
    ),
    Variation(
        "bytewise",
        "events arrive in pieces of seven bytes",
        "TCP has no messages",
        events=_bytes_of(_bytewise),
    ),
    Variation("one-write", "several events arrive in one piece", "TCP has no messages", events=_one_write),
    Variation(
        "no-space",
        "no space after `data:`",
        "WHATWG: the space is optional",
        events=_bytes_of(lambda raw: raw.replace(b"data: ", b"data:", 1)),
    ),
    Variation(
        "done-spacing",
        "[DONE] has other spaces round it",
        "openai-python: startswith",
        events=_bytes_of(lambda raw: b"data:[DONE] \n\n" if raw == DONE else raw),
    ),
    Variation(
        "escaped-json", "all of the JSON is ASCII with \\u escapes", "RFC 8259 section 7", events=_ascii_json
    ),
    Variation(
        "data-lines",
        "the JSON is spread over several data lines",
        "WHATWG: lines are joined with LF",
        events=_bytes_of(lambda raw: raw.replace(b', "', b',\ndata: "', 1)),
    ),
    Variation(
        "usage-absent-until-end",
        "chunks before the last one leave usage out",
        "llama.cpp",
        events=_chunks(_no_null_usage),
    ),
    Variation(
        "role-chunk-empty",
        'the role has a chunk of its own with content ""',
        "OpenAI, vLLM",
        events=_first_delta(""),
    ),
    Variation(
        "role-chunk-null",
        "the role has a chunk of its own with content null",
        "llama.cpp",
        events=_first_delta(None),
    ),
    Variation(
        "extra-fields",
        "chunks have fields that OpenAI does not know",
        "llama.cpp's timings, vLLM's stop_reason",
        events=_chunks(_extra_fields),
    ),
    Variation(
        "end-content-null",
        "the finishing delta has content null",
        "several servers",
        events=_chunks(_content_null_at_end),
    ),
    Variation(
        "end-content-empty",
        'the finishing delta has content ""',
        "several servers",
        events=_chunks(_content_empty_at_end),
    ),
    Variation(
        "finish-with-text",
        "the finish reason rides on the last text",
        "several servers",
        events=_finish_with_last_text,
    ),
    Variation(
        "bare-whole",
        "a whole answer has the required keys and unknown ones",
        "several servers",
        whole=_bare_whole,
    ),
    Variation(
        "bare-refusals",
        "what is left of a limit is not told, and Retry-After is in seconds alone",
        "vLLM, LiteLLM",
        reply=_bare_refusals,
    ),
)
