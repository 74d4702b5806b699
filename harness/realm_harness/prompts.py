"""What the cases ask. None assumes what a model says; they only make a certain kind of answer likely."""

from __future__ import annotations

HELLO = "Say hello."
"""A short question with a short answer."""

STORY = "Write a short story about a lighthouse keeper and a storm."
"""A long answer in words."""

COUNT = "Count from one to thirty in words, with commas between them."
"""A long answer that is much the same with every model."""

OPENING = "Once upon a time, in a small village by the sea, there lived a girl who"
"""For where prompts are continued as they are: models that were made for conversations go on with it, too."""

MULTIBYTE = (
    "Repeat this line again and again, exactly: 🙂🎉🚀 日本語 naïve façade привет 👍",
    "List ten emoji, and nothing else.",
    "Schreibe zwei Sätze über Bären, Äpfel und Straßen.",
    "用中文写一句话。",
)
"""Questions whose answers are likely to hold characters of several bytes."""

LONG_ANSWERS = (
    STORY,
    COUNT,
    "Explain in a few sentences how rain forms.",
    "Describe a busy market in the morning.",
)
"""Questions that hardly any model answers in a few tokens."""

SHORT_ANSWERS = (
    HELLO,
    "Answer with one word: what colour is the sky?",
    "What is two plus two? Answer with the number.",
    "Say OK.",
)
"""Questions that a model may answer in few tokens, and then stop by itself."""


_PLACES = ["harbour", "mill", "bridge", "orchard", "tower", "market", "chapel", "garden", "quarry", "station"]


def long_prompt(number: int, name: str = "") -> str:
    """Some hundred tokens of a made-up list, another one for each number and name."""
    lines = (
        f"{_PLACES[(number + n) % 10]} {number * 7 + n * 13} north, {_PLACES[(number * 3 + n * 7) % 10]} {n}."
        for n in range(24)
    )
    return f"List {name or number}: " + " ".join(lines) + " Describe the first place on this list."


def code_word(number: int) -> str:
    """A word that no model says by chance."""
    return f"QUOKKA-{7919 * (number + 3) % 100_000:05d}"


def about_code_word(word: str) -> str:
    """A question whose answer is likely to repeat `word`."""
    return f"The code word is {word}. Repeat the code word {word} twice, then stop."
