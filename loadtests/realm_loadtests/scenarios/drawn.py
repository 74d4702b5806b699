"""Prompts and answers of drawn lengths: the prompts exact, in the server's own tokens."""

from __future__ import annotations

from random import Random
from typing import Final

from realm_loadtests.scenarios.scenario import WORDS, Ask, Questions
from realm_loadtests.scenarios.spread import Spread
from realm_loadtests.settings import Settings

DEFAULT_PROMPT: Final = "uniform:64-256"
FIRST: Final = "The"


class Drawn(Questions):
    """Independent prompts of drawn lengths: `FIRST`, and then pieces of one token each.

    Which pieces these are, and how many tokens `FIRST` takes with the chat template around it, was measured
    before the run (`runs/tokenizer.py`) and stands in the settings. Without that, a word counts as a token.
    """

    def __init__(self, settings: Settings, random: Random) -> None:
        super().__init__(settings, random)
        self._prompt = Spread.parse(settings.prompt_tokens or DEFAULT_PROMPT)
        self._answer = Spread.parse(settings.output_tokens) if settings.output_tokens else None
        self._pieces = settings.pieces or tuple(f" {word}" for word in WORDS)

    def next(self) -> Ask:
        """A prompt of one length, an answer of at most another."""
        prompt = self._prompt.draw(self.random)
        answer = self._answer.draw(self.random) if self._answer else self.settings.max_tokens
        body = self.body(self.text(prompt))
        body["max_tokens"] = answer
        return Ask(body, prompt_tokens=prompt, output_tokens=answer if self._answer else None)

    def text(self, tokens: int) -> str:
        """A drawn text that makes a prompt of so many tokens."""
        count = max(0, tokens - self.settings.prompt_overhead)
        return FIRST + "".join(self.random.choices(self._pieces, k=count))
