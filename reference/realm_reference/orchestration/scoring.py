"""The log probabilities of a prompt's own tokens, for who asks what a model thinks of a given text."""

from __future__ import annotations

from typing import Final

import numpy as np

from realm_reference.engine import Session
from realm_reference.orchestration.logprobs import TokenLogprobs, logprobs_of

# Positions whose logits are held at a time: [32, V] float32 is some megabytes on the largest vocabularies.
_CHUNK: Final = 32


def score_prompt(session: Session, ids: list[int], count: int) -> tuple[TokenLogprobs | None, ...]:
    """What the model says of each of `ids` after those before it, with `count` alternatives.

    The first is None, because nothing comes before it. `session` is an empty one. Raises AbiError as it does.
    """
    scores: list[TokenLogprobs | None] = [None]
    for start in range(0, len(ids), _CHUNK):
        chunk = np.array(ids[start : start + _CHUNK], np.uint32)
        rows = session.forward(chunk, len(chunk))
        following = ids[start + 1 : start + _CHUNK + 1]
        scores += [logprobs_of(row, token, count) for row, token in zip(rows, following, strict=False)]
    return tuple(scores)
