"""One choice of a chat answer as it comes: what each event of its generation adds to the message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from realm_reference.model.tokenizer import Tokenizer
from realm_reference.orchestration import Finished, FinishReason, Token
from realm_reference.server.logprobs import ScoredToken, ScoreKeeper, chat_logprobs

Json = dict[str, Any]


@dataclass
class Piece:
    """What was added: text, and the entries of `logprobs.content` (None when nobody asked for them)."""

    text: str = ""
    logprobs: list[Json] | None = None

    def __bool__(self) -> bool:
        return bool(self.text or self.logprobs)

    def add(self, other: Piece) -> None:
        """Put `other` behind this."""
        self.text += other.text
        if other.logprobs is not None:
            self.logprobs = [*(self.logprobs or []), *other.logprobs]


class Turn:
    """Reads one generation. A streamed answer sends each piece, a whole one the sum of them: so they are
    equal.
    """

    def __init__(self, tokenizer: Tokenizer, *, with_logprobs: bool) -> None:
        self._tokenizer = tokenizer
        self._keeper = ScoreKeeper(tokenizer) if with_logprobs else None
        self.finish_reason: str | None = None

    def take(self, event: Token | Finished) -> Piece:
        """What `event` adds; a Finished also sets `finish_reason`."""
        if isinstance(event, Token):
            scored = self._keeper.push(event) if self._keeper else []
            return Piece(event.text, self._entries(scored))
        self.finish_reason = event.reason.value
        return Piece(logprobs=self._entries(self._left(event.reason)))

    def _left(self, reason: FinishReason) -> list[ScoredToken]:
        return self._keeper.end(reason) if self._keeper else []

    def _entries(self, scored: list[ScoredToken]) -> list[Json] | None:
        return chat_logprobs(scored, self._tokenizer) if self._keeper else None
