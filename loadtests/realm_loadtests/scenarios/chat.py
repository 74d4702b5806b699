"""The plain scenario: independent questions, one after the other, each answered as a stream."""

from __future__ import annotations

from realm_loadtests.scenarios.scenario import Ask, Questions

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


class Chat(Questions):
    """A drawn prompt for each request, or the one that was given."""

    def next(self) -> Ask:
        """One question."""
        return Ask(self.body(self.settings.prompt or self.random.choice(PROMPTS)))
