"""Requests that begin alike: a shared system prompt, and conversations that grow."""

from __future__ import annotations

from random import Random
from typing import Final

from realm_loadtests.scenarios.chat import PROMPTS
from realm_loadtests.scenarios.scenario import WORDS, Ask, Questions
from realm_loadtests.settings import Settings

PREFIX_WORDS: Final = 400
TURNS: Final = 5


class SharedPrefix(Questions):
    """All users share one long system prompt; what differs comes after it."""

    def next(self) -> Ask:
        """A question under the shared prompt, which the run's seed alone decides."""
        shared = " ".join(Random(self.settings.seed).choices(WORDS, k=PREFIX_WORDS))
        return Ask(self.body(self.random.choice(PROMPTS), system=f"Remember these words: {shared}."))


class Conversation(Questions):
    """Five turns, each with all before it; then a new conversation."""

    def __init__(self, settings: Settings, random: Random) -> None:
        super().__init__(settings, random)
        self._said: list[str] = []

    def next(self) -> Ask:
        """The user's next turn. An answer that never came, or came empty, ends the conversation."""
        if len(self._said) % 2 or len(self._said) >= 2 * TURNS:
            self._said = []
        self._said.append(self.random.choice(PROMPTS) if not self._said else f"And what of {self.words(2)}?")
        return Ask(self.body(*self._said))

    def heard(self, text: str) -> None:
        """The answer is the next request's past."""
        if text:
            self._said.append(text)
