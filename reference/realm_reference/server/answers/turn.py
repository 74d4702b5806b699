"""One choice of an answer as it comes: what each event of its generation adds to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from realm_reference.model.tokenizer import Tokenizer
from realm_reference.orchestration import Finished, FinishReason, PromptScored, Token
from realm_reference.server.answers.call_syntax import CallSyntax
from realm_reference.server.answers.calls import Call, joined
from realm_reference.server.answers.logprobs import ScoredToken, ScoreKeeper, scored_prompt


@dataclass
class Piece:
    """What was added: text, the tokens whose log probabilities are told with it (None when nobody asked for
    any), and calls of functions.
    """

    text: str = ""
    scored: list[ScoredToken] | None = None
    calls: list[Call] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.text or self.scored or self.calls)

    def add(self, other: Piece) -> None:
        """Put `other` behind this."""
        self.text += other.text
        if other.scored is not None:
            self.scored = [*(self.scored or []), *other.scored]
        self.calls = joined([*self.calls, *other.calls])


class Turn:
    """Reads one generation. A streamed answer sends each piece, a whole one the sum of them: so they are
    equal.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        with_logprobs: bool,
        echo: str = "",
        with_calls: CallSyntax | None = None,
    ) -> None:
        """`echo` is put before the first text; calls of functions are read out of it in a syntax."""
        self._tokenizer = tokenizer
        self._echo = echo
        self._keeper = ScoreKeeper(tokenizer, len(echo)) if with_logprobs else None
        self._calls = with_calls.reader() if with_calls else None
        self.finish_reason: str | None = None

    def take(self, event: PromptScored | Token | Finished) -> Piece:
        """What `event` adds; a Finished also sets `finish_reason`."""
        echo, self._echo = self._echo, ""
        if isinstance(event, PromptScored):
            return Piece(echo, scored_prompt(event, self._tokenizer))
        if isinstance(event, Token):
            scored = self._keeper.push(event) if self._keeper else None
            if self._calls is None:
                return Piece(echo + event.text, scored)
            text, calls = self._calls.push(event.text)
            return Piece(text, scored, calls)
        return self._end(event, echo)

    def _end(self, finished: Finished, echo: str) -> Piece:
        self.finish_reason = finished.reason.value
        left = self._calls.end() if self._calls else ""
        if self._calls and self._calls.calls and finished.reason is FinishReason.STOP:
            self.finish_reason = "tool_calls"
        return Piece(echo + left, self._keeper.end(finished.reason) if self._keeper else None)
