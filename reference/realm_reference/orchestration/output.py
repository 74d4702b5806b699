"""What a guest hands out, checked: order, counts, ranges. A guest is the tenant's code, so nothing is
believed.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Protocol

from realm_abi.errors import AbiError, ErrorCode
from realm_abi.steps import Answer, Steps, until

from realm_reference.engine import StepRecord
from realm_reference.orchestration.events import Failed, FailureKind, PromptScored, Token
from realm_reference.orchestration.logprobs import TokenLogprobs

# The longest token text plausible: what was held back for a stop string, and one token more.
_MAX_TEXT_BYTES: Final = 64 * 1024


class Sink(Protocol):
    """What a guest's tokens go to: a client's Generation, or the host itself."""

    @property
    def cancelled(self) -> bool:
        """Whether the work is to stop."""

    def stepped(self, record: StepRecord) -> None:
        """The engine took a step for it."""

    def put(self, token: PromptScored | Token) -> Future[None] | None:
        """Take a token, or what comes before all; with a future, when that is done or nobody wants it."""

    def cancel(self, cause: Failed | None = None) -> None:
        """Stop the work."""

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the work is to stop."""


class Output:
    """The one way from a guest to its client. A breach ends the request as a guest fault, with the reason."""

    def __init__(self, generation: Sink, max_tokens: int, vocab_size: int) -> None:
        self._generation = generation
        self._max_tokens = max_tokens
        self._vocab_size = vocab_size
        self._stopped = False
        self.tokens = 0
        self.text_bytes = 0

    def emit(
        self,
        token: int,
        text: str,
        logprob: float | None,
        *,
        stop_token: bool,
        scores: TokenLogprobs | None = None,
    ) -> Answer:
        """ABI v2: one sampled token. Returns 0 to go on, 1 to stop."""
        if self._stopped:
            raise self.breach("it emitted a token after a stop token")
        if token >= self._vocab_size:
            raise self.breach(f"it emitted token {token}, outside the vocabulary of {self._vocab_size}")
        if logprob is not None and not logprob <= 1e-3:
            raise self.breach(f"it emitted a log probability of {logprob}")
        self._stopped = stop_token
        return self._hand_on(Token(text, token, logprob, counted=not stop_token, scores=scores))

    def stream(self, text: str) -> Answer:
        """ABI v1: the text of one token; one call more than max_tokens may carry what was held back."""
        late = self.tokens == self._max_tokens
        if late and self._stopped:
            raise self.breach(f"it streamed more than {self._max_tokens} tokens")
        self._stopped = late
        return self._hand_on(Token(text, None, None, counted=not late))

    def _hand_on(self, token: Token) -> Answer:
        if token.counted and self.tokens >= self._max_tokens:
            raise self.breach(f"it emitted more than {self._max_tokens} tokens")
        size = len(token.text.encode())
        if size > _MAX_TEXT_BYTES:
            raise self.breach(f"it emitted {size} bytes of text with one token")
        self.tokens += token.counted
        self.text_bytes += size
        waiting = self._generation.put(token)
        return int(self._generation.cancelled) if waiting is None else self._handed_on(waiting)

    def _handed_on(self, waiting: Future[None]) -> Steps[int]:
        yield from until(waiting)
        return int(self._generation.cancelled)

    def breach(self, what: str) -> AbiError:
        """The guest broke its contract: ends the request; returns what to raise."""
        self._generation.cancel(
            Failed(FailureKind.GUEST_FAULT, f"The guest module broke its contract: {what}.")
        )
        return AbiError(ErrorCode.invalid_argument, what)
