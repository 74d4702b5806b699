"""Requests that leave a guest to guess, and what they have in common with those that do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from realm_mocks.host import Computed, Hashed, Logits, Moment, Run, Script

from realm_harness.guestsuite.drawing import NEVER
from realm_harness.guestsuite.judging import demand_of, offered, well
from realm_harness.guestsuite.subject import PROMPT, VOCABULARY, GuestSubject

Drafter = Callable[[tuple[int, ...], int], Sequence[int]]

LEAVES: Final = ((1, 3), (2, 1), (5, 0), (2**32 - 1, 2**32 - 1))
"""draft_tokens and draft_lookup of the requests that are compared with one without."""

GUESSING: Final = {"realm_draft": 3, "realm_session_truncate": 3}
"""Imports that only a guest which guesses calls, and the draft_tokens that make it."""


def leave(most: int, longest: int) -> dict[str, Any]:
    """Options with leave for so many guesses, and to look up so many tokens for them."""
    return {"draft_tokens": most, "draft_lookup": longest}


def rambling(seed: int, letters: int = 4) -> Script:
    """A script of the first letters that mostly repeats what it said after the two tokens before, and now and
    then, by the whole text, does not: guesses from the text are right at times and wrong at times.
    """

    def logits(moment: Moment) -> Logits:
        near = Hashed(seed).logits(Moment(moment.tokens[-2:], 0, letters))
        far = Hashed(seed + 1).logits(Moment(moment.tokens, 0, letters))
        values = np.full(moment.vocab_size, NEVER, np.float32)
        values[ord("a") : ord("a") + letters] = near / 2 + far / 4
        return values

    return Computed(logits)


def drafter(script: Script, prompt: str = PROMPT, right: int = 1 << 30) -> Drafter:
    """Of each proposal the first `right` tokens are the likeliest, and those after them the second best."""
    length = len(VOCABULARY.encode(prompt, add_bos=True))

    def draft(tokens: tuple[int, ...], most: int) -> list[int]:
        guesses: list[int] = []
        for n in range(min(most, 32)):
            moment = Moment((*tokens, *guesses), length, VOCABULARY.vocab_size)
            order = np.argsort(script.logits(moment), kind="stable")
            guesses.append(int(order[-1 if n < right else -2]))
        return guesses

    return draft


def guessing(guest: GuestSubject, function: str, script: str, prompt: str = PROMPT, **given: Any) -> Run:
    """A plain request, or one in which a guest that guesses has to call `function`."""
    if function not in GUESSING:
        return guest.run(script, prompt, **given)
    return guest.run(script, prompt, draft=always_wrong, **leave(GUESSING[function], 0), **given)


def always_wrong(tokens: tuple[int, ...], most: int) -> list[int]:
    """Guesses that no script of these cases says."""
    return [ord("~")] * most


def same_with_drafts(
    guest: GuestSubject,
    script: Script,
    drafts: Drafter | None = None,
    prompt: str = PROMPT,
    **options: Any,
) -> None:
    """Broken unless a request says the same, token for token, whatever it may guess."""
    plain = offered(guest.run(script, prompt, **options))
    for most, longest in LEAVES:
        given = leave(most, longest)
        run = well(guest.run(script, prompt, draft=drafts, **given, **options))
        same = said(run) == said(plain)
        where = first_difference(said(run), said(plain))
        demand_of(run, same, f"with {given} it is {where}; due was what it is without drafts")


def said(run: Run) -> list[tuple[str, ...]]:
    """All that a reader gets: the tokens with their texts, logprobs and flags, and the end."""
    emits = [
        (str(call.arguments["token"]), repr(call.arguments["logprob"]), str(call.arguments["flags"]))
        for call in run.calls("realm_emit")
    ]
    handed = [(*emit, text) for emit, text in zip(emits, run.texts, strict=True)]
    return [*handed, (str(run.answer),)]


def first_difference(came: list[tuple[str, ...]], due: list[tuple[str, ...]]) -> str:
    """Where two runs part, in words."""
    for n, (one, other) in enumerate(zip(came, due, strict=False), 1):
        if one != other:
            return f"{one}, not {other}, at emit {n}"
    return f"{len(came) - 1} tokens, not {len(due) - 1}"


def fed(run: Run) -> list[int]:
    """How many tokens each realm_forward after the first emit took."""
    first = next(call.index for call in run.calls("realm_emit"))
    return [call.window("ids").count for call in run.calls("realm_forward") if call.index > first]
