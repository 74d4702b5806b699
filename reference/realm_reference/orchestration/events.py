"""What a generation reports, in order: `PromptScored` if that was asked for, any number of `Token`, then one
`Finished` or one `Failed`, then nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from realm_reference.orchestration.logprobs import TokenLogprobs


@dataclass(frozen=True)
class Token:
    """One emitted token. `text` is whole characters, maybe none: a guest holds back what may become a stop
    string.

    `token_id` and `logprob` are None where the guest's ABI does not tell them. A token that only carries
    what was held back when a stop token came is not `counted`. `logprob` is the guest's word; `scores` are
    the host's, there if the request asked.
    """

    text: str
    token_id: int | None
    logprob: float | None
    counted: bool = True
    scores: TokenLogprobs | None = None


@dataclass(frozen=True)
class PromptScored:
    """The prompt's tokens and what the model says of each after those before it; of the first, nothing. It
    comes before any token.
    """

    tokens: tuple[int, ...]
    scores: tuple[TokenLogprobs | None, ...]


class FinishReason(StrEnum):
    """Why a generation ended that did not fail; the first two are OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Finished:
    """The end of a generation, with token counts from ids (never from words)."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


class FailureKind(StrEnum):
    """Who or what ended a generation; the server maps it to a status."""

    GUEST_FAULT = "guest_fault"  # trapped, looped, lied, broke the contract
    LIMIT = "limit"  # a limit of the request's: sessions, host calls
    FORMAT = "format"  # the response format costs more than it may
    DEADLINE = "deadline"  # the wall clock
    CONTEXT_FULL = "context_full"
    OUT_OF_MEMORY = "out_of_memory"
    SLOW_READER = "slow_reader"
    SHUTDOWN = "shutdown"
    INTERNAL = "internal"


@dataclass(frozen=True)
class Failed:
    """A failure of this generation alone. The message is for the client: no path, no prompt, no output in
    it.
    """

    kind: FailureKind
    message: str


Event = PromptScored | Token | Finished | Failed
End = Finished | Failed
