"""Chat answers as the cases read them: one view of a whole answer, one of a stream.

Both read leniently, so that a case about stop strings does not fail over a missing `id`; the cases about
the shape itself look at `data` and `chunks` directly.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from realm_harness.case import Broken
from realm_harness.exchange import Exchange
from realm_harness.sse import Event, Parser

Json = dict[str, Any]


def shown(value: object, limit: int = 200) -> str:
    """A value as a message shows it: JSON-like, clipped."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def _objects(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class Answer:
    """A whole (not streamed) answer."""

    exchange: Exchange
    data: Json

    @classmethod
    def read(cls, exchange: Exchange) -> Answer:
        """Parse the body of a 200 reply; Broken when it is no JSON object."""
        try:
            data = json.loads(exchange.body)
        except ValueError as error:
            raise Broken(
                f"the answer's body is not JSON in UTF-8 ({error}): {shown(exchange.body)}"
            ) from None
        if not isinstance(data, dict):
            raise Broken(f"the answer's body is JSON but no object: {shown(data)}")
        return cls(exchange, data)

    @property
    def choices(self) -> list[Json]:
        """The choices that are objects."""
        return _objects(self.data.get("choices"))

    def message(self, choice: int = 0) -> Json:
        """The message of a choice; {} when there is none."""
        return _object(self.choices[choice].get("message")) if choice < len(self.choices) else {}

    def text(self, choice: int = 0) -> str:
        """The content of a choice; "" for null."""
        return _text(self.message(choice).get("content"))

    def finish(self, choice: int = 0) -> object:
        """The finish reason of a choice, whatever it is."""
        return self.choices[choice].get("finish_reason") if choice < len(self.choices) else None

    @property
    def usage(self) -> Json:
        """The usage object; {} when there is none."""
        return _object(self.data.get("usage"))

    def count(self, name: str) -> int:
        """A number out of `usage`; Broken when it is not there."""
        value = self.usage.get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Broken(
                f"the answer's usage has no integer `{name}`: usage is {shown(self.data.get('usage'))}"
            )
        return value


@dataclass(frozen=True)
class Chunk:
    """One JSON object of a stream and when it was complete."""

    t_ns: int
    data: Json

    @property
    def choices(self) -> list[Json]:
        """The choices that are objects."""
        return _objects(self.data.get("choices"))


@dataclass(frozen=True)
class Delta:
    """What one chunk brings to one choice."""

    t_ns: int
    content: str
    role: object
    finish: object
    reasoning: str


@dataclass
class Stream:
    """A streamed answer: all events, and what they say.

    Attributes:
        events: every event, in order.
        chunks: the events that are JSON objects.
        strays: the data of events that are neither a JSON object nor [DONE].
        done: the indexes in `events` of the [DONE]s.
        faults: what the SSE parser did not like.
        rest: bytes behind the last complete event.
    """

    exchange: Exchange
    events: list[Event] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    rest: bytes = b""

    @classmethod
    def read(cls, exchange: Exchange) -> Stream:
        """Parse all that came of a stream."""
        stream = cls(exchange)
        parser = Parser()
        for t_ns, data in exchange.segments:
            for event in parser.feed(data, t_ns):
                stream.take(event)
        stream.faults = parser.faults
        stream.rest = parser.rest
        return stream

    def take(self, event: Event) -> None:
        """Sort one event in."""
        self.events.append(event)
        if is_done(event):
            self.done.append(len(self.events) - 1)
            return
        if self.done:  # what follows the end is no part of the answer: see the case about it
            return
        try:
            data = json.loads(event.data)
        except ValueError:
            data = None
        if isinstance(data, dict):
            self.chunks.append(Chunk(event.t_ns, data))
        else:
            self.strays.append(event.data)

    def deltas(self, choice: int = 0) -> list[Delta]:
        """What the chunks bring to one choice, in order."""
        found = []
        for chunk in self.chunks:
            for entry in chunk.choices:
                if entry.get("index", 0) == choice:
                    delta = _object(entry.get("delta"))
                    reasoning = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
                    found.append(
                        Delta(
                            chunk.t_ns,
                            _text(delta.get("content")),
                            delta.get("role"),
                            entry.get("finish_reason"),
                            reasoning,
                        )
                    )
        return found

    def text(self, choice: int = 0) -> str:
        """The content of a choice, put together."""
        return "".join(delta.content for delta in self.deltas(choice))

    def finish(self, choice: int = 0) -> object:
        """The last finish reason that is not null (or empty), None when there is none."""
        return next((d.finish for d in reversed(self.deltas(choice)) if d.finish), None)

    @property
    def usages(self) -> list[Chunk]:
        """The chunks that bring a usage object."""
        return [chunk for chunk in self.chunks if isinstance(chunk.data.get("usage"), dict)]

    @property
    def indexes(self) -> list[int]:
        """The indexes of the choices that appear, sorted."""
        return sorted({i for c in self.chunks for e in c.choices if isinstance(i := e.get("index"), int)})


def is_done(event: Event) -> bool:
    """Whether an event is the terminator; openai-python looks only at how its data starts."""
    return event.data.startswith("[DONE]")
