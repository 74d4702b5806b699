"""A generation's logits on their way to the guest: processed for it, and kept as the model made them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from realm_reference.orchestration.grammar import GrammarProcessor
from realm_reference.orchestration.logits import F32, LogitBias, LogitsProcessor, Penalties
from realm_reference.orchestration.logprobs import TokenLogprobs, logprobs_of
from realm_reference.orchestration.request import GenerationRequest


class Trail:
    """What a session holds: its tokens, and the model's logits by the position of the token that they are
    of.
    """

    def __init__(self, tokens: Iterable[int] = (), rows: dict[int, F32] | None = None) -> None:
        self.tokens = list(tokens)
        self.rows = rows or {}

    def fork(self) -> Trail:
        """A copy for a session's copy; rows are never written to, so both may hold them."""
        return Trail(self.tokens, dict(self.rows))

    def truncate(self, length: int) -> None:
        """Forget the tokens from `length` on, and what followed them."""
        del self.tokens[length:]
        self.rows = {position: row for position, row in self.rows.items() if position < length}


class Shaper:
    """The processors of one generation, and the log probabilities that it asks for.

    Where the answer begins is not taken from the prompt's length, because a guest may put a text of its own
    round the prompt: it is what the session held when the first token was emitted.
    """

    def __init__(self, request: GenerationRequest) -> None:
        self._top = request.logprobs
        self._grammar = GrammarProcessor(request.grammar) if request.grammar else None
        self._processors: list[LogitsProcessor] = []
        if request.presence_penalty or request.frequency_penalty:
            self._processors.append(Penalties(request.presence_penalty, request.frequency_penalty))
        if request.logit_bias:
            self._processors.append(LogitBias(request.logit_bias))
        if self._grammar:
            self._processors.append(self._grammar)  # last: no bias lifts what it forbids
        self._start: int | None = None
        self._emitted: list[int] = []

    def begin_answer(self, trail: Trail) -> None:
        """The next token that `trail` gets is the answer's first, unless it has begun before."""
        if self._start is None:
            self._start = len(trail.tokens)

    def forwarded(self, trail: Trail, ids: NDArray[np.uint32], rows: F32) -> None:
        """`ids` were appended to `trail`'s session, and `rows` [R, V] are the logits of its last R tokens."""
        trail.tokens += ids.tolist()
        first = len(trail.tokens) - len(rows)
        for position, row in enumerate(rows, first):
            if self._top is not None:
                trail.rows[position] = row.copy()
            self.process(trail.tokens[: position + 1], row)

    def process(self, tokens: list[int], row: F32) -> None:
        """Run the processors on the logits [V] of the token after `tokens`, which a session holds."""
        generated = [] if self._start is None else tokens[self._start :]
        for processor in self._processors:
            processor(generated, row)

    def emitted(self, trail: Trail, token: int) -> TokenLogprobs | None:
        """`token` is the answer's next. Returns its log probabilities if they were asked for.

        Raises ValueError, with what the guest did wrong, for one that the grammar forbids or of which the
        guest cannot know the logits.
        """
        self.begin_answer(trail)
        assert self._start is not None
        if self._grammar and not self._grammar.allows(self._emitted, token):
            raise ValueError("it emitted a token that the response format forbids")
        position = self._start - 1 + len(self._emitted)
        self._emitted.append(token)
        if self._top is None:
            return None
        row = trail.rows.get(position)
        if row is None:
            raise ValueError("it emitted a token without having asked for its logits")
        trail.rows = {at: kept for at, kept in trail.rows.items() if at > position}
        return logprobs_of(row, token, self._top)
