"""Logprobs, where a request wants them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from realm_mocks.host import Fixed, Hashed, Moment, Script

from realm_harness.guestsuite.drawing import row
from realm_harness.guestsuite.judging import demand_of, offered, well
from realm_harness.guestsuite.marks import V2, guest_case
from realm_harness.guestsuite.subject import PROMPT, VOCABULARY, GuestSubject

TOLERANCE = 2e-3
"""float32 arithmetic over a vocabulary, done without care."""


def check_logprobs(guest: GuestSubject, script: Script, **options: Any) -> None:
    """Every logprob is that of its token in the softmax of the raw logits."""
    run = offered(guest.run(script, max_tokens=6, want_logprobs=True, **options))
    tokens = VOCABULARY.encode(PROMPT, add_bos=True)
    length = len(tokens)
    for call in run.calls("realm_emit"):
        logits = script.logits(Moment(tuple(tokens), length, VOCABULARY.vocab_size)).astype(np.float64)
        token, said = int(call.arguments["token"]), float(call.arguments["logprob"])
        due = float(logits[token] - np.logaddexp.reduce(logits))
        near = abs(said - due) <= TOLERANCE + 1e-4 * abs(due)
        demand_of(run, near, f"the logprob of token {token} is {said:.5f}; due was {due:.5f}", call.index)
        tokens.append(token)


@guest_case("GUEST-LOGPROB-001", "logprob.value", "people add them up to compare texts", versions=V2)
def test_greedy(guest: GuestSubject) -> None:
    """At temperature 0 the logprob is that of the softmax of the raw logits."""
    check_logprobs(guest, Hashed(3))


@guest_case("GUEST-LOGPROB-002", "logprob.raw", "they say what the model thinks", versions=V2)
def test_sampled(guest: GuestSubject) -> None:
    """Temperature, filters and penalty do not change the logprob."""
    check_logprobs(guest, Hashed(3, scale=1.0), temperature=0.5, seed=4, top_k=5)
    check_logprobs(guest, Hashed(4, scale=1.0), temperature=1.7, seed=4, top_p=0.7, min_p=0.01)
    check_logprobs(guest, Hashed(5, scale=1.0), repetition_penalty=1.8)


@guest_case("GUEST-LOGPROB-003", "logprob.value", "exp of a logit of 100 is no float32", versions=V2)
def test_large_logits(guest: GuestSubject) -> None:
    """Large logits neither overflow nor vanish."""
    for offset in (300.0, -300.0):
        values = row({"a": 1.0, "b": 0.0, "c": 0.5}) + np.float32(offset)
        check_logprobs(guest, Fixed(values.astype(np.float32)))


@guest_case("GUEST-LOGPROB-004", "logprob.unwanted", "a number looks like an answer", versions=V2)
def test_nobody_asked(guest: GuestSubject) -> None:
    """Without want_logprobs the logprob is NaN."""
    run = well(guest.run("abc"))
    for call in run.calls("realm_emit"):
        said = float(call.arguments["logprob"])
        demand_of(run, math.isnan(said), f"nobody asked, and the logprob is {said}", call.index)
