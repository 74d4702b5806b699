"""What a prompt is in the server's own tokens, learned from its answers before the run.

Any OpenAI-compatible server counts a prompt's tokens in its `usage`, with its tokenizer and its template,
whatever these are; so nothing has to be known of them, and what is learned is what the run is measured by.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

from realm_loadtests.scenarios.drawn import DEFAULT_PROMPT, FIRST, Drawn
from realm_loadtests.scenarios.scenario import WORDS
from realm_loadtests.scenarios.spread import Spread
from realm_loadtests.settings import Settings
from realm_loadtests.wire.connection import Connection, Target, build_request
from realm_loadtests.wire.exchange import fetch

ENOUGH: Final = 8
"""Pieces of one token that a run's prompts are drawn from at least."""
_CANDIDATES: Final = (
    tuple(f" {word}" for word in WORDS),
    tuple(f" {letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
    tuple("abcdefghijklmnopqrstuvwxyz"),  # tokenizers of characters or bytes
)

Count = Callable[[str], int]
"""The tokens of a prompt whose one message is this text."""


class Unmeasured(Exception):
    """Prompts of exact lengths cannot be made for this server; one line with the remedy."""


def measured(settings: Settings, count: Count) -> Settings:
    """The settings with the pieces of one token, and with what a prompt takes beside them.

    Some 10 to 60 calls of `count`. Raises Unmeasured.
    """
    spread = Spread.parse(settings.prompt_tokens or DEFAULT_PROMPT)
    overhead = count(FIRST)
    if spread.low < overhead:
        raise Unmeasured(
            f"no prompt has {spread.low} tokens: the model's chat template and one word take {overhead}; "
            f"ask for {overhead} or more with --prompt-tokens"
        )
    for candidates in _CANDIDATES:
        pieces = _single(candidates, count, overhead)
        if len(pieces) < ENOUGH:
            continue
        ready = replace(settings, pieces=tuple(pieces), prompt_overhead=overhead)
        if _holds(ready, spread, count):
            return ready
    raise Unmeasured(
        "its tokenizer has too few pieces of text that are always one token: leave --prompt-tokens out"
    )


def counted_by(settings: Settings, target: Target, api_key: str | None) -> Count:
    """Ask the server. Raises ExchangeFailure, and Unmeasured if it refuses or does not count."""

    def count(text: str) -> int:
        body = {"model": settings.model, "messages": [{"role": "user", "content": text}], "max_tokens": 1}
        request = build_request(
            target, "POST", "/chat/completions", body=json.dumps(body).encode(), api_key=api_key
        )
        head, answer = fetch(Connection(target), request, timeout=settings.timeout_s)
        try:
            document: Any = json.loads(answer)
            if head.status != 200:
                said = document["error"]["message"]
                raise Unmeasured(f"a prompt for --prompt-tokens is refused ({head.status}): {said}")
            return int(document["usage"]["prompt_tokens"])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise Unmeasured(
                f"its answer ({head.status}) does not count the prompt's tokens (usage.prompt_tokens): "
                "leave --prompt-tokens out"
            ) from None

    return count


def _single(pieces: Sequence[str], count: Count, overhead: int) -> list[str]:
    """Those that are one token each. No piece is less than one, so a sum that is right has no wrong part."""
    if count(FIRST + "".join(pieces)) - overhead == len(pieces):
        return list(pieces)
    if len(pieces) == 1:
        return []
    half = len(pieces) // 2
    return _single(pieces[:half], count, overhead) + _single(pieces[half:], count, overhead)


def _holds(settings: Settings, spread: Spread, count: Count) -> bool:
    """Whether drawn prompts of the shortest, a middle and the longest length have it."""
    drawn = Drawn(settings, Random(settings.seed))
    return all(count(drawn.text(tokens)) == tokens for tokens in {spread.low, spread.typical, spread.high})
