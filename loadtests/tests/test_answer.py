"""Which events are tokens, and which streams are whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from realm_loadtests.wire.answer import Answer, error_message
from realm_loadtests.wire.failures import ExchangeFailure
from realm_loadtests.wire.sse import Event


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> Event:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return Event(b"", json.dumps({"id": "c1", "choices": [choice], **more}).encode())


DONE = Event(b"", b"[DONE]")


def take_all(*events: Event) -> Answer:
    """Feed events at the times 1, 2, 3..."""
    answer = Answer()
    for stamp, event in enumerate(events, start=1):
        answer.take(event, stamp)
    answer.close()
    return answer


def test_only_events_with_text_are_tokens() -> None:
    answer = take_all(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": None}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "a"}),
        chunk({"content": ""}),
        chunk({"tool_calls": [{"index": 0}]}),
        chunk({}, "stop"),
        DONE,
    )
    assert answer.token_times == [3, 4, 6]
    assert answer.finish_reason == "stop"
    assert answer.response_id == "c1"


def test_the_servers_count_wins_over_the_events() -> None:
    usage = Event(b"", b'{"choices": [], "usage": {"completion_tokens": 7, "prompt_tokens": 3}}')
    answer = take_all(chunk({"content": "ab"}), chunk({}, "length"), usage, DONE)
    assert (answer.tokens, answer.prompt_tokens) == (7, 3)
    assert take_all(chunk({"content": "ab"}), chunk({}, "stop", usage=None), DONE).tokens == 1


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ([chunk({"content": "a"}), DONE], "no_finish_reason"),
        ([chunk({"content": "a"}, "stop")], "no_done"),
        ([chunk({"content": "a"}, "stop"), DONE, chunk({"content": "b"})], "data_after_done"),
        ([Event(b"", b"{")], "malformed_event"),
        ([Event(b"", b"\xff")], "malformed_event"),
        ([Event(b"", b"[" * 100_000)], "malformed_event"),
        ([Event(b"", b"[]")], "malformed_event"),
        ([Event(b"", b"{}")], "malformed_event"),
        ([Event(b"", b'{"choices": [3]}')], "malformed_event"),
        ([Event(b"", b'{"choices": [{"delta": "text"}]}')], "malformed_event"),
        ([Event(b"", b'{"error": {"message": "out of memory"}}')], "error_event"),
        ([Event(b"error", b'{"message": "out of memory"}')], "error_event"),
    ],
)
def test_what_is_not_a_whole_stream_has_a_name(events: list[Event], kind: str) -> None:
    with pytest.raises(ExchangeFailure) as failure:
        take_all(*events)
    assert failure.value.kind == kind


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "too long", "type": "x", "param": None, "code": None}},
        {"error": "too long"},
        {"message": "too long"},
        "too\nlong",
    ],
)
def test_the_sentence_is_found_in_every_shape_of_error(body: Any) -> None:
    assert error_message(body) == "too long"
