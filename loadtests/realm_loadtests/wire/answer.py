"""The grammar of a streamed chat completion, checked while the clock runs.

A token event is an event that carries text: of the answer, of its reasoning, of a refusal or of a tool call.
The opening chunk that only names the role is none, nor is a chunk with empty content (a server may send one
when a token ends inside a character), so neither can pass for the first token.
"""

from __future__ import annotations

import json
from typing import Any

from realm_loadtests.wire.failures import ExchangeFailure
from realm_loadtests.wire.sse import Event

# Not json.loads: guessing the encoding of bytes (SSE is always UTF-8) and looking for space around the value
# cost it more than half of its time.
_DECODER: Any = json.JSONDecoder()  # typeshed does not know its scan_once
_SCAN = _DECODER.scan_once
_TEXT_KEYS = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls")


class Answer:
    """What one stream said, and when.

    `token_times` are the stamps given with the token events, in nanoseconds, `first_event` that of the first
    event of any kind; `texts` the pieces of the answer's content; `completion_tokens` and `prompt_tokens` are
    the server's own counts, None if it sent no usage; `response_id` is the chunks' `id`.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.first_event: int | None = None
        self.token_times: list[int] = []
        self.finish_reason: str | None = None
        self.completion_tokens: int | None = None
        self.prompt_tokens: int | None = None
        self.response_id: str | None = None
        self.done = False

    def take(self, event: Event, stamp: int) -> None:
        """Take one event, received at `stamp`; raise `ExchangeFailure` if it does not belong here."""
        if self.done:
            raise ExchangeFailure("data_after_done", f"after [DONE]: {event.data[:80]!r}")
        if event.data == b"[DONE]":
            self.done = True
            return
        chunk = _parse(event)
        self._belongs(chunk, stamp)
        if self._read_choices(chunk.get("choices")):
            self.token_times.append(stamp)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.completion_tokens = _count(usage, "completion_tokens")
            self.prompt_tokens = _count(usage, "prompt_tokens")

    def close(self) -> None:
        """Tell that the stream has ended; raise `ExchangeFailure` if it ended too early."""
        if self.finish_reason is None:
            raise ExchangeFailure("no_finish_reason", f"ended after {len(self.token_times)} token events")
        if not self.done:
            raise ExchangeFailure("no_done", f"ended after {len(self.token_times)} token events")

    @property
    def tokens(self) -> int:
        """The number of tokens: the server's count, or the number of token events where there is none."""
        return len(self.token_times) if self.completion_tokens is None else self.completion_tokens

    def _belongs(self, chunk: dict[str, Any], stamp: int) -> None:
        """All chunks of a stream have one id: another's is another request's text."""
        found = chunk.get("id")
        if self.response_id is None:
            self.response_id, self.first_event = str(found), stamp
        elif found is not None and found != self.response_id:
            raise ExchangeFailure("foreign_chunk", f"a chunk of {found!r:.60} in {self.response_id:.60}")

    def _read_choices(self, choices: Any) -> bool:
        if not isinstance(choices, list):
            raise ExchangeFailure("malformed_event", "a chunk without a list of choices")
        carries_text = False
        for choice in choices:
            if not isinstance(choice, dict):
                raise ExchangeFailure("malformed_event", f"a choice is {choice!r:.60}")
            delta = choice.get("delta") or {}
            if not isinstance(delta, dict):
                raise ExchangeFailure("malformed_event", f"a delta is {delta!r:.60}")
            carries_text |= _has_text(delta)
            if delta.get("content"):
                self.texts.append(str(delta["content"]))
            if choice.get("finish_reason") is not None:
                self.finish_reason = str(choice["finish_reason"])
        return carries_text


def _has_text(delta: dict[str, Any]) -> bool:
    for key in _TEXT_KEYS:  # noqa: SIM110 - any() of a generator costs twice as much, once per token
        if delta.get(key):
            return True
    return False


def _parse(event: Event) -> dict[str, Any]:
    try:
        text = event.data.decode().strip(" \t\r\n")
        chunk, end = _SCAN(text, 0)
    except (ValueError, RecursionError, StopIteration) as error:
        raise ExchangeFailure("malformed_event", f"not JSON: {event.data[:80]!r}") from error
    if end != len(text):
        raise ExchangeFailure("malformed_event", f"more than JSON: {event.data[:80]!r}")
    if not isinstance(chunk, dict):
        raise ExchangeFailure("malformed_event", f"not an object: {event.data[:80]!r}")
    if chunk.get("error") or event.name == b"error":
        raise ExchangeFailure("error_event", error_message(chunk))
    return chunk


def error_message(body: Any) -> str:
    """Find the sentence in an error body, in any of the shapes that servers use."""
    found = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(found, dict):
        found = found.get("message", found)
    return " ".join(str(found).split())[:200]


def _count(usage: dict[str, Any], key: str) -> int | None:
    value = usage.get(key)
    return value if isinstance(value, int) and value >= 0 else None
