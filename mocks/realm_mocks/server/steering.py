"""logit_bias and penalties in the scripted model: simple, deterministic, and of a visible effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from realm_mocks.server.lexicon import id_of, piece_of
from realm_mocks.server.request import ChatRequest

STRONG = 20.0
"""A bias beyond this decides, for or against a token."""


def steered(request: ChatRequest, tokens: Iterator[bytes]) -> Iterator[bytes]:
    """The model's `tokens` as bias and penalties leave them, endless as they are.

    A token with a strong bias is said in place of all others, until what it loses by being repeated has
    used the bias up; one with a strong bias against it is left out.
    """
    if not request.logit_bias:
        yield from tokens
        return
    said: Counter[int] = Counter()

    def favour(token: int) -> float:
        count = said[token]
        lost = request.frequency_penalty * count + request.presence_penalty * (count > 0)
        return request.logit_bias.get(token, 0.0) - lost

    while True:
        best = max(request.logit_bias, key=favour)
        piece = piece_of(best)
        if favour(best) < STRONG or piece is None:
            piece = next(token for token in tokens if request.logit_bias.get(id_of(token), 0.0) > -STRONG)
        said[id_of(piece)] += 1
        yield piece
