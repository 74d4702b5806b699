"""One choice of an answer as it comes: what each event of its generation adds to it."""

from __future__ import annotations

from dataclasses import dataclass

from realm_reference.model.tokenizer import Tokenizer
from realm_reference.orchestration import Finished, PromptScored, Token
from realm_reference.server.logprobs import ScoredToken, ScoreKeeper, scored_prompt


@dataclass
class Piece:
    """What was added: text, and the tokens whose log probabilities are told with it (None when nobody asked
    for any).
    """

    text: str = ""
    scored: list[ScoredToken] | None = None

    def __bool__(self) -> bool:
        return bool(self.text or self.scored)

    def add(self, other: Piece) -> None:
        """Put `other` behind this."""
        self.text += other.text
        if other.scored is not None:
            self.scored = [*(self.scored or []), *other.scored]


class Turn:
    """Reads one generation. A streamed answer sends each piece, a whole one the sum of them: so they are
    equal.
    """

    def __init__(self, tokenizer: Tokenizer, *, with_logprobs: bool, echo: str = "") -> None:
        """`echo` is put before the first text."""
        self._tokenizer = tokenizer
        self._echo = echo
        self._keeper = ScoreKeeper(tokenizer, len(echo)) if with_logprobs else None
        self.finish_reason: str | None = None

    def take(self, event: PromptScored | Token | Finished) -> Piece:
        """What `event` adds; a Finished also sets `finish_reason`."""
        echo, self._echo = self._echo, ""
        if isinstance(event, PromptScored):
            return Piece(echo, scored_prompt(event, self._tokenizer))
        if isinstance(event, Token):
            return Piece(echo + event.text, self._keeper.push(event) if self._keeper else None)
        self.finish_reason = event.reason.value
        return Piece(echo, self._keeper.end(event.reason) if self._keeper else None)
