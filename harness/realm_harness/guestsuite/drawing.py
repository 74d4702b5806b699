"""Samples from a known distribution, and the distribution that they should have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from realm_mocks.host import Fixed, Run

from realm_harness.guestsuite.judging import demand_of, offered
from realm_harness.guestsuite.oracle import chi_square, softmax
from realm_harness.guestsuite.subject import VOCABULARY, GuestSubject

ALPHA = 1e-6
"""A right guest fails a test of its distribution this rarely; with fixed seeds it does always or never."""

SEEDS = (11, 12)
DRAWS = 300
"""Tokens for each seed, where the distribution counts."""

FEW = 150
"""Tokens of one seed, where it counts what comes at all: of 9% comes something, but for one time in 10^6."""

NEVER = -100.0
"""The logit of what is not meant to be drawn."""

PLAIN: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}


def row(logits: dict[str, float]) -> NDArray[np.float32]:
    """Logits `[vocab]` in which only these letters stand a chance."""
    values = np.full(VOCABULARY.vocab_size, NEVER, dtype=np.float32)
    for letter, logit in logits.items():
        values[ord(letter)] = logit
    return values


def of_probabilities(probabilities: dict[str, float]) -> NDArray[np.float32]:
    """Logits `[vocab]` whose softmax at temperature 1 is this."""
    return row({letter: float(np.log(value)) for letter, value in probabilities.items()})


def everything(guest: GuestSubject, **options: Any) -> dict[str, Any]:
    """Options under which nothing ends a request but max_tokens."""
    endless: dict[str, Any] = {"stop_tokens": ()}
    if guest.version == 2:
        endless["ignore_eos"] = True
    return PLAIN | endless | options


def draw(
    guest: GuestSubject,
    logits: NDArray[np.float32],
    *,
    draws: int = DRAWS,
    seeds: tuple[int, ...] = SEEDS,
    prompt: str = "p",
    **options: Any,
) -> tuple[Run, NDArray[np.int64]]:
    """The last run, and how often each token `[vocab]` was drawn in all."""
    counts = np.zeros(VOCABULARY.vocab_size, dtype=np.int64)
    for seed in seeds:
        chosen = everything(guest, seed=seed, max_tokens=draws + 1, **options)
        run = offered(guest.run(Fixed(logits), prompt, layers=1, **chosen))
        counts += np.bincount(run.tokens, minlength=len(counts))
    return run, counts


def follows(
    guest: GuestSubject,
    logits: NDArray[np.float32],
    due: NDArray[np.float64] | None = None,
    temperature: float = 1.0,
    **options: Any,
) -> None:
    """Broken unless the samples look like draws from `due` `[vocab]`, by default the whole softmax."""
    wanted = softmax(logits, temperature) if due is None else due
    run, counts = draw(guest, logits, temperature=temperature, **options)
    demand_of(run, counts.sum() >= len(SEEDS) * DRAWS, f"{counts.sum()} tokens were sampled")
    p_value = chi_square(counts, wanted)
    often = {chr(t): int(counts[t]) for t in np.flatnonzero(counts) if t < 127}
    expected = {chr(t): round(float(wanted[t] * counts.sum())) for t in np.flatnonzero(wanted > 1e-3)}
    asked = {"temperature": temperature, **options}
    demand_of(
        run,
        p_value >= ALPHA,
        f"with {asked} and seeds {SEEDS} the tokens came {often} times, due were about {expected}"
        f" (chi-square, p = {p_value:.1e})",
    )


def drawn_letters(guest: GuestSubject, logits: NDArray[np.float32], **options: Any) -> tuple[Run, str]:
    """The last run, and the letters that were drawn at all, in alphabetical order."""
    run, counts = draw(guest, logits, draws=FEW, seeds=SEEDS[:1], **options)
    return run, "".join(chr(token) for token in np.flatnonzero(counts))


def only(guest: GuestSubject, logits: NDArray[np.float32], due: str, **options: Any) -> None:
    """Broken unless exactly these letters are drawn; each must be likely enough to come."""
    run, letters = drawn_letters(guest, logits, **options)
    demand_of(run, letters == due, f"with {options} the tokens drawn are {letters!r}; due were {due!r}")
