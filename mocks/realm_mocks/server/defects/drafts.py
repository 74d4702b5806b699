"""Defects of speculation: guesses that are believed, and guesses that reach too far."""

from __future__ import annotations

from dataclasses import replace

from realm_mocks.server.generation import Generation
from realm_mocks.server.metrics import Family, Sample
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.variation import State, Variation

REACH = 2
"""Guesses that come true at once."""


def _unverified(request: ChatRequest, generation: Generation, _: State) -> Generation:
    """Each fourth token is the guess, which is the one before."""
    if not request.draft_tokens:
        return generation
    pieces = [generation.pieces[n - (n % 4 == 3)] for n in range(len(generation.pieces))]
    return replace(generation, pieces=tuple(pieces))


def _likeliest(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, temperature=0.0) if request.draft_tokens else request


def _all_rejected(request: ChatRequest, generation: Generation, _: State) -> Generation:
    """A first guess that is not taken ends the answer."""
    return replace(generation, tokens=(), pieces=()) if request.draft_tokens else generation


def _past_the_cap(request: ChatRequest, _: State) -> ChatRequest:
    if not request.draft_tokens or request.cap is None:
        return request
    return replace(request, max_tokens=request.cap + REACH, max_completion_tokens=None)


def _by_the_cap(request: ChatRequest, generation: Generation, _: State) -> Generation:
    """Near the cap guesses are cut short, and the last one is kept unseen."""
    if not request.draft_tokens or len(generation.pieces) % 3:
        return generation
    return replace(generation, pieces=(*generation.pieces[:-1], " guess"))


def _stops_unseen(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, stop=()) if request.draft_tokens else request


def _row_before(request: ChatRequest, generation: Generation, _: State) -> Generation:
    """Each guess has the log probability of the token before it."""
    entries = generation.logprobs
    if not request.draft_tokens or not entries:
        return generation
    before = (entries[0], *entries[:-1])
    rows = zip(entries, before, strict=True)
    return replace(generation, logprobs=tuple({**e, "logprob": b["logprob"] - 0.25} for e, b in rows))


def _all_accepted(families: list[Family], _: State) -> list[Family]:
    """What was proposed and what was sampled are counted together."""

    def bent(family: Family) -> Family:
        if family.name != "realm_draft_accepted_total":
            return family
        return replace(family, samples=tuple(Sample(3 * one.value + 1) for one in family.samples))

    return [bent(family) for family in families]


DEFECTS = (
    Variation(
        "draft-unverified", "guesses are said without a look", "realm-defects 36", generation=_unverified
    ),
    Variation(
        "draft-likeliest",
        "with guesses the likeliest token is taken, whatever the temperature",
        "realm-defects 36",
        request=_likeliest,
    ),
    Variation(
        "draft-all-rejected",
        "when all guesses are rejected the answer is empty",
        "realm-defects 36",
        generation=_all_rejected,
    ),
    Variation(
        "draft-past-cap",
        "guesses that come true go beyond max_tokens",
        "realm-defects 36",
        request=_past_the_cap,
    ),
    Variation(
        "draft-by-cap",
        "where the cap cuts guesses short the last token is a guess",
        "realm-defects 36",
        generation=_by_the_cap,
    ),
    Variation(
        "draft-stops-unseen",
        "stop strings among guesses are not seen",
        "vllm-project/vllm: stop strings in speculative decoding",
        request=_stops_unseen,
    ),
    Variation(
        "draft-logprobs",
        "a guess has the log probability of the token before it",
        "one row too early",
        generation=_row_before,
    ),
    Variation(
        "draft-counters",
        "more guesses are counted as kept than were made",
        "realm-defects 36",
        metrics=_all_accepted,
    ),
)
