"""What the API promises about the distribution, applied by the host to the logits that a guest is given.

It is done here, and not in the guest, so that it holds whatever a tenant's guest makes of the logits. The
guest's own samplers (temperature, top_p, repetition_penalty, ...) come after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


class LogitsProcessor(Protocol):
    """One promise."""

    def __call__(self, generated: Sequence[int], row: F32) -> None:
        """Change `row`, the logits [V] of the token that follows `generated`, in place.

        `generated` holds the answer's tokens up to there, never the prompt's. It may be shorter than in the
        call before, because guests may take tokens back.
        """


class LogitBias:
    """OpenAI's `logit_bias`: a number is added to the logits of some tokens."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        self._tokens = np.array(list(bias), np.intp)
        self._values = np.array(list(bias.values()), np.float32)

    def __call__(self, generated: Sequence[int], row: F32) -> None:
        """Whatever came before."""
        row[self._tokens] += self._values


class Penalties:
    """OpenAI's `presence_penalty` and `frequency_penalty`.

    A token that was generated c > 0 times loses ``presence + c * frequency``. The prompt's tokens do not
    count (OpenAI's definition, and vLLM's; the guest's repetition_penalty does count them).
    """

    def __init__(self, presence: float, frequency: float) -> None:
        self._presence = np.float32(presence)
        self._frequency = np.float32(frequency)

    def __call__(self, generated: Sequence[int], row: F32) -> None:
        """Take from each token that was generated."""
        if generated:
            tokens, counts = np.unique(np.array(generated, np.intp), return_counts=True)
            row[tokens] -= self._presence + counts.astype(np.float32) * self._frequency
