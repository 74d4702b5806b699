"""Text and numbers as every report writes them."""

from __future__ import annotations


def number(value: float | None) -> str:
    """Three or four figures of a number; a dash for none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def visible(text: str) -> str:
    r"""The text with each character that would act instead of show as its escape (`\x1b`, `\u202e`).

    A server under test chooses its model's name and more; a terminal obeys such characters, XML forbids them.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )
