"""What a scenario is: one user's next request, drawn from that user's own chance."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from realm_loadtests.settings import Settings

_TEXT = """river stone window garden paper bridge winter candle market letter engine harbour forest mirror
bottle ladder orchard station pocket thunder blanket compass village feather kitchen lantern"""
WORDS = tuple(_TEXT.split())


@dataclass(frozen=True)
class Ask:
    """One request: its body; after how many token events the user hangs up (None: never); how long it
    pauses after each read, in seconds, as a reader does that is slower than the server; and the lengths that
    were drawn for its prompt and its answer (None: it was not drawn).
    """

    body: dict[str, Any]
    cancel_after: int | None = None
    read_pause_s: float = 0.0
    prompt_tokens: int | None = None
    output_tokens: int | None = None


class Scenario(Protocol):
    """One user. Made with the run's settings and the user's own source of chance; equal ones ask alike."""

    def __init__(self, settings: Settings, random: Random) -> None: ...

    def next(self) -> Ask:
        """The next request."""

    def heard(self, text: str) -> None:
        """The whole answer to the last one."""


class Questions:
    """What most scenarios share: independent questions, whose answers nobody remembers."""

    def __init__(self, settings: Settings, random: Random) -> None:
        self.settings = settings
        self.random = random

    def heard(self, text: str) -> None:
        """Nothing follows from it."""

    def body(self, *messages: str, system: str | None = None, **more: Any) -> dict[str, Any]:
        """A streaming request with a sampling seed of its own; `messages` take turns, the user's first."""
        turns = [
            {"role": "assistant" if number % 2 else "user", "content": text}
            for number, text in enumerate(messages)
        ]
        if system is not None:
            turns.insert(0, {"role": "system", "content": system})
        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": turns,
            "max_tokens": self.settings.max_tokens,
            "seed": self.random.getrandbits(31),
            "stream": True,
            **more,
        }
        if self.settings.include_usage:
            body["stream_options"] = {"include_usage": True}
        return body

    def words(self, count: int) -> str:
        """So many drawn words: about as many tokens."""
        return " ".join(self.random.choices(WORDS, k=count))
