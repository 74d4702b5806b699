"""The plain scenario: independent questions, one after the other, each answered as a stream."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from realm_loadtests.settings import Settings

PROMPTS = (
    "Name three things that float on water.",
    "Why is the sky blue? Answer in two sentences.",
    "Write a short letter to a neighbour who has lost a cat.",
    "Explain to a child how a bicycle stays upright.",
    "List five uses for an empty glass jar.",
    "What is the difference between weather and climate?",
    "Give me a recipe for a simple vegetable soup, with amounts for two people.",
    "Translate into French: the train leaves at seven in the morning.",
    "Write a Python function that returns the n-th Fibonacci number, and say what its running time is.",
    "Summarise in one paragraph why tides come twice a day although the moon passes only once.",
    "I have eggs, flour, milk and two apples, but no oven. What can I cook, and in which order?",
    "Compare a stack and a queue. When would a program need one, when the other? Give an example for each.",
    "Continue this story: The lighthouse keeper had seen no ship for ninety days when, one evening, he found",
    "A shop sells pencils at 30 cents and pens at 80 cents. Anna buys eleven items for 5.80 in total. "
    "How many of each did she buy? Show each step.",
)
"""The built-in prompts: different lengths and subjects, so that a server's cache does not answer for it."""


@dataclass(frozen=True)
class Chat:
    """Draws a prompt for each request; equal seeds draw equal sequences."""

    settings: Settings

    def next_body(self, random: Random) -> dict[str, Any]:
        """The body of the next request, with a sampling seed of its own."""
        prompt = self.settings.prompt or random.choice(PROMPTS)
        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self.settings.max_tokens,
            "seed": random.getrandbits(31),
            "stream": True,
        }
        if self.settings.include_usage:
            body["stream_options"] = {"include_usage": True}
        return body


def user_random(seed: int, worker: int, user: int) -> Random:
    """The source of chance of one user: the run's seed decides it, and no two users share it."""
    return Random(f"{seed}/{worker}/{user}")
