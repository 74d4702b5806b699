"""Log probabilities of a scripted answer: invented, consistent, and given with the text that they are of."""

from __future__ import annotations

import math
from typing import Any

from realm_mocks.server.generation import Generation
from realm_mocks.server.request import ChatRequest

Json = dict[str, Any]

OTHERS = tuple(f" alternative{number}" for number in range(20))
"""What the model might have said in place of any token; nothing that it ever says."""


def entries(request: ChatRequest, generation: Generation) -> tuple[Json, ...]:
    """An entry of `logprobs.content` for each token: the token has half of the probability, the others halve
    what is left.
    """
    count = request.top_logprobs or 0
    others = [_entry(text.encode(), math.log(0.5 ** (2 + rank))) for rank, text in enumerate(OTHERS)]
    made = [_entry(token, math.log(0.5)) for token in generation.tokens]
    return tuple({**entry, "top_logprobs": [entry, *others][:count]} for entry in made)


def _entry(token: bytes, logprob: float) -> Json:
    return {"token": token.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(token)}


def by_token(generation: Generation) -> list[list[Json]]:
    """The entries that go out with each token's text; those whose text was held back wait for it.

    What a stop string has cut off is not told.
    """
    waiting: list[Json] = []
    released: list[list[Json]] = []
    for piece, entry in zip(generation.pieces, generation.logprobs or (), strict=True):
        waiting.append(entry)
        released.append(waiting if piece else [])
        waiting = [] if piece else waiting
    if released and not generation.cut:
        released[-1] = [*released[-1], *waiting]
    return released


def content(generation: Generation) -> Json | None:
    """The object `logprobs` of a whole answer's choice."""
    if generation.logprobs is None:
        return None
    told = [entry for entries in by_token(generation) for entry in entries]
    return {"content": told, "refusal": None}
