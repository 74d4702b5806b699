"""What goes out: whole replies and the planned events of a stream, both plain data until they are sent.

The answer of a scripted model is known before its first byte is due. So a stream is planned as a list of
events, and a planted defect is a function from one list to another.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from realm_mocks.server import logprobs, tools
from realm_mocks.server.generation import Generation
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.schedule import Schedule


@dataclass(frozen=True)
class Reply:
    """A whole HTTP reply; `body` is sent as JSON, or as it is when it is bytes.

    `closes` ends the connection after it, whatever the headers say.
    """

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    closes: bool = False

    def payload(self) -> bytes:
        """The bytes of the body."""
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body, ensure_ascii=False).encode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class Event:
    """One server-sent event.

    Attributes:
        due: seconds after the request's arrival at which it is sent.
        data: the JSON object of a chunk; None for an event that is only `raw`.
        raw: the bytes as they are, in place of `data`; a tuple is sent in as many writes.
        token: index of the token that the event carries, for the server's record of send times.
    """

    due: float
    data: dict[str, Any] | None = None
    raw: bytes | tuple[bytes, ...] = b""
    token: int | None = None

    def writes(self) -> tuple[bytes, ...]:
        """The pieces in which the event is written to the socket."""
        if self.data is None:
            return self.raw if isinstance(self.raw, tuple) else (self.raw,)
        return (b"data: " + json.dumps(self.data, ensure_ascii=False).encode("utf-8") + b"\n\n",)


DONE = b"data: [DONE]\n\n"


def usage(generations: Sequence[Generation]) -> dict[str, int]:
    """Token counts of a request: the prompt once, the completions of all choices."""
    prompt = generations[0].prompt_tokens
    completion = sum(generation.completion_tokens for generation in generations)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def whole_reply(request: ChatRequest, generations: Sequence[Generation], answer_id: str) -> dict[str, Any]:
    """The `chat.completion` object."""
    return {
        "id": answer_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "system_fingerprint": "fp_scripted",
        "choices": [
            {
                "index": index,
                "message": _message(generation),
                "logprobs": logprobs.content(generation),
                "finish_reason": generation.finish_reason,
            }
            for index, generation in enumerate(generations)
        ],
        "usage": usage(generations),
    }


def _message(generation: Generation) -> dict[str, Any]:
    if generation.call is None:
        return {"role": "assistant", "content": generation.text, "refusal": None}
    return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [generation.call]}


def _scores(generation: Generation, count: int) -> list[dict[str, Any] | None]:
    """The object `logprobs` of each of `count` chunks."""
    if generation.logprobs is None:
        return [None] * count
    told = logprobs.by_token(generation)
    found = [{"content": entries, "refusal": None} if entries else None for entries in told]
    return (found + [None] * count)[:count]


def stream_events(
    request: ChatRequest,
    generations: Sequence[Generation],
    pieces: Sequence[Sequence[str]],
    schedule: Schedule,
    answer_id: str,
) -> list[Event]:
    """The events of a stream in the order and at the times at which they are sent.

    `pieces[c][t]` is the text that token t of choice c lets go. The first delta of a choice brings the role
    with the first token; the finish reason has an event of its own, as OpenAI's has.
    """
    created = int(time.time())

    def chunk(choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        head = {"id": answer_id, "object": "chat.completion.chunk", "created": created}
        rest = {"usage": None} if request.include_usage else {}
        return {**head, "model": request.model, "choices": choices, **rest, **more}

    def choice(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}

    events: list[Event] = []
    for index, texts in enumerate(pieces):
        scores = _scores(generations[index], len(texts))
        for token, text in enumerate(texts):
            delta = {"role": "assistant", "content": text} if token == 0 else {"content": text}
            if text or token == 0 or scores[token]:
                data = chunk([{**choice(index, delta), "logprobs": scores[token]}])
                events.append(Event(schedule.offset(token), data, token=token))
        called = [{"tool_calls": [delta]} for delta in tools.deltas(generations[index].call)]
        at = schedule.offset(max(0, len(texts) - 1))
        events += [Event(at, chunk([choice(index, delta)])) for delta in called]
        finish = chunk([choice(index, {}, generations[index].finish_reason)])
        events.append(Event(schedule.offset(max(0, len(texts) - 1)), finish))
    events.sort(key=lambda event: event.due)
    end = events[-1].due
    if request.include_usage:
        events.append(Event(end, chunk([], usage=usage(generations))))
    return [*events, Event(end, raw=DONE)]
