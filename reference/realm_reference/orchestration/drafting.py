"""Speculation on the host's side: what a draft model proposes, and an account of what becomes of guesses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.steps import Steps, until

from realm_reference.engine import Session


class Drafter:
    """Proposals for one session of a guest's, from a session of the draft model that follows it."""

    def __init__(self, session: Session, context_length: int) -> None:
        self._session = session
        self._context = context_length

    def propose(self, tokens: Sequence[int], most: int) -> Steps[list[int]]:
        """What the draft model finds likeliest after `tokens`, one after the other, at most `most` of them.

        None where it cannot: a guess is an offer, and whoever asks goes on without. Raises AbiError
        `cancelled`.
        """
        most = min(most, self._context + 1 - len(tokens))
        guesses: list[int] = []
        try:
            while len(guesses) < most:
                row = yield from self._next_row([*tokens, *guesses])
                guesses.append(row)
        except AbiError as error:
            if error.code is ErrorCode.cancelled:
                raise
        return guesses

    def _next_row(self, tokens: Sequence[int]) -> Steps[int]:
        """The likeliest token after these: what the session holds in common with them is not fed again."""
        same = _common(self._session.tokens, tokens)
        same = min(same, len(tokens) - 1)
        self._session.truncate(same)
        rows = yield from until(self._session.start_forward(np.array(tokens[same:], np.uint32), 1))
        return int(rows[0].argmax())

    def free(self) -> None:
        """Give the session back."""
        self._session.free()


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    for n, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return n
    return min(len(one), len(other))


class Guesses:
    """How many tokens a guest has fed before it sampled them, and how many of them it sampled then.

    Seen from outside: what a session holds beyond the prompt and the tokens that were handed on is guessed;
    what is truncated of it, or left in the end, did not come true.
    """

    def __init__(self) -> None:
        self.made = 0
        self._lost = 0
        self._prompt: dict[int, int] = {}

    @property
    def kept(self) -> int:
        """Guesses that were sampled."""
        return max(0, self.made - self._lost)

    def fed(self, session: int, length: int, count: int, emitted: int) -> None:
        """`count` tokens were fed to a session that has `length` of them now, with `emitted` handed on."""
        if not emitted:
            self._prompt[session] = length
        self.made += min(count, self._ahead(session, length, emitted))

    def truncated(self, session: int, before: int, after: int, emitted: int) -> None:
        """A session of `before` tokens has `after` of them now."""
        if emitted:
            self._lost += before - after

    def left(self, session: int, length: int, emitted: int) -> None:
        """A session is freed with so many tokens."""
        self._lost += self._ahead(session, length, emitted)
        self._prompt.pop(session, None)

    def _ahead(self, session: int, length: int, emitted: int) -> int:
        return max(0, length - self._prompt.get(session, length) - emitted)
