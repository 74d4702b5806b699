"""Long prompts, long answers, and a mixture: what prefill and decode do to each other."""

from __future__ import annotations

from typing import Final

from realm_loadtests.scenarios.scenario import Ask, Questions

LONG_PROMPT_WORDS: Final = 800
LONG_SHARE: Final = 0.2


class LongPrompt(Questions):
    """Some 800 words to read for each request, new ones each time."""

    def next(self) -> Ask:
        """A text and a question on it."""
        return Ask(self.body(f"{self.words(LONG_PROMPT_WORDS)}\n\nWhich of these words comes first?"))


class LongAnswer(Questions):
    """A short prompt whose answer goes on to max_tokens."""

    def next(self) -> Ask:
        """A request for a long list."""
        return Ask(self.body(f"Write a very long story, without an end, about a {self.words(1)}."))


class Mixed(Questions):
    """One request in five is a long prompt among short ones."""

    def next(self) -> Ask:
        """A long or a short one."""
        count = LONG_PROMPT_WORDS if self.random.random() < LONG_SHARE else 10
        return Ask(self.body(f"{self.words(count)}\n\nContinue this list of words."))
