"""Log probabilities of tokens, from the model's own logits: before bias, penalties, grammar and samplers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# JSON has no infinity; this is what OpenAI writes for "hardly at all".
LEAST: Final = -9999.0


@dataclass(frozen=True)
class TokenLogprobs:
    """The natural logarithm of a token's probability, and (token, logprob) of the likeliest, best first."""

    logprob: float
    top: tuple[tuple[int, float], ...]


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """[V] -> [V], in float32."""
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum(dtype=np.float32)), np.float32)


def logprobs_of(logits: NDArray[np.float32], token: int, count: int) -> TokenLogprobs:
    """What `logits` [V] say of `token`, with the `count` likeliest tokens; equals are ordered by id."""
    logprobs = np.maximum(log_softmax(logits), np.float32(LEAST))
    count = min(count, len(logprobs))
    top: list[int] = []
    if count:
        # All that are as good as the last of them, so that the ids and not the algorithm break ties.
        threshold = np.partition(logprobs, len(logprobs) - count)[len(logprobs) - count]
        candidates = np.flatnonzero(logprobs >= threshold)
        order = np.lexsort((candidates, -logprobs[candidates]))
        top = [int(candidates[i]) for i in order[:count]]
    return TokenLogprobs(float(logprobs[token]), tuple((i, float(logprobs[i])) for i in top))
