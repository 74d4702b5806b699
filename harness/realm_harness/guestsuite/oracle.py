"""What a right loop says: the few lines of it that the cases compare with."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from realm_mocks.host import Moment, Script

from realm_harness.guestsuite.subject import VOCABULARY


def greedy_tokens(script: Script, prompt: str, limit: int) -> tuple[int, ...]:
    """The tokens that temperature 0 gives after a prompt (BOS first), without a token that ends it."""
    tokens = VOCABULARY.encode(prompt, add_bos=True)
    length = len(tokens)
    for _ in range(limit):
        logits = script.logits(Moment(tuple(tokens), length, VOCABULARY.vocab_size))
        token = int(np.argmax(logits))
        if token in VOCABULARY.eos_ids:
            break
        tokens.append(token)
    return tuple(tokens[length:])


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Probabilities `[vocab]` of logits `[vocab]` divided by a temperature."""
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    probabilities: NDArray[np.float64] = weights / weights.sum()
    return probabilities


def chi_square(counts: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """P-value of Pearson's test that `counts` `[n]` are draws from `probabilities` `[n]`.

    Bins that expect fewer than 5 are merged into one.
    """
    expected = probabilities * counts.sum()
    small = expected < 5
    observed = np.append(counts[~small], counts[small].sum()).astype(np.float64)
    due = np.append(expected[~small], expected[small].sum())
    observed, due = observed[due > 0], due[due > 0]
    statistic = float(((observed - due) ** 2 / due).sum())
    return survival(statistic, len(due) - 1)


def survival(statistic: float, freedom: int) -> float:
    """P(chi-square with `freedom` degrees of freedom > statistic): closed form, term by term from 1 or 2."""
    half = statistic / 2
    if half <= 0 or freedom < 1:
        return 1.0
    if freedom % 2:
        total, start = math.erfc(math.sqrt(half)), 0.5
    else:
        total, start = math.exp(-half), 1.0
    for step in range((freedom - 1) // 2):
        total += math.exp((start + step) * math.log(half) - half - math.lgamma(start + step + 1))
    return min(total, 1.0)
