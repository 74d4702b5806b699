"""Collects what a guest did wrong, and holds the rules that are the same for both versions of the ABI."""

from __future__ import annotations

from collections.abc import Sequence

from realm_abi.errors import ErrorCode, FinishReason
from realm_abi.guard import Raw

from realm_mocks.host.outcome import Answer
from realm_mocks.host.rules import RULES, Finding
from realm_mocks.host.vocabulary import Tokenizer

RECOVERABLE = {
    ("realm_encode", ErrorCode.buffer_too_small),
    ("realm_decode", ErrorCode.buffer_too_small),
    ("realm_encode_tokens", ErrorCode.buffer_too_small),
    ("realm_decode_tokens", ErrorCode.buffer_too_small),
    ("realm_get_model_metadata", ErrorCode.buffer_too_small),
    ("realm_draft", ErrorCode.unsupported),
}
"""Errors after which a guest may go on: it asks again with more room, or does without drafts."""

STOPPING = {"realm_emit", "realm_stream_token"}
"""Functions whose result 1 asks the guest to stop."""


REFUSALS = {
    ErrorCode.invalid_argument,
    ErrorCode.out_of_bounds,
    ErrorCode.misaligned,
    ErrorCode.invalid_utf8,
    ErrorCode.invalid_handle,
}
"""Errors that a host answers only to a mistake of the guest."""

NEAR = 3
"""Tokens that are shown before and after a wrong one."""

_CODES = {int(code) for code in ErrorCode}

MANNERS = {"error-lost", "call-after-error", "call-after-stop"}
"""Rules that hold even for a guest that was told nonsense."""


class Findings:
    """The findings of one run."""

    def __init__(self) -> None:
        self.seen: list[Finding] = []
        self.calls = 0
        self.fatal: int | None = None
        self.stopped = False
        self.freed: set[int] = set()
        """Sessions that the guest asked to free, whatever came of it."""
        self.tampered = False
        """Whether the host lied to the guest; what the guest says and feeds after that is not its fault."""

    def report(self, rule: str, message: str) -> None:
        """Notes that the guest broke a rule (a key of `RULES`), unless a fault may have made it do so."""
        if rule not in RULES:
            raise KeyError(rule)
        if self.tampered and rule not in MANNERS:
            return
        self.seen.append(Finding(rule, self.calls, message))

    def before_call(self, function: str, raw: Sequence[Raw]) -> None:
        """Checks that the guest may call anything at all now."""
        if function == "realm_session_free":
            self.freed.add(int(raw[0]))
            return
        if self.fatal is not None:
            self.report("call-after-error", f"{function} after error {self.fatal}")
        elif self.stopped:
            self.report("call-after-stop", f"{function} after being asked to stop")

    def after_call(self, function: str, result: int | None, *, provoked: bool) -> None:
        """Remembers the answer, None for a trap; `provoked` says that a fault had a hand in it."""
        if result in REFUSALS and not provoked:
            self.report("refused", f"{function} answered {ErrorCode(result).name}")
        self.calls += 1
        if result is None:
            return
        if result < 0 and (function, result) not in RECOVERABLE and self.fatal is None:
            self.fatal = result
        if result == 1 and function in STOPPING:
            self.stopped = True

    def finished(self, answer: Answer) -> None:
        """Checks that a fatal error came through."""
        if self.fatal is None or answer.fault:
            return
        as_max_tokens = answer.reason is FinishReason.max_tokens or answer.returned is not None
        context_ended = self.fatal == ErrorCode.context_full and as_max_tokens
        if answer.error != self.fatal and not context_ended:
            told = ErrorCode(self.fatal).name if self.fatal in _CODES else self.fatal
            self.report("error-lost", f"a host call failed with {told}, generate answered {answer}")

    def check_text(self, tokenizer: Tokenizer, tokens: Sequence[int], text: str, *, whole: bool) -> None:
        """Checks the emitted text against the tokens': all of it, or where it was cut the beginning.

        What becomes of bytes that are no character, and whether special tokens have a text, is the guest's
        choice.
        """
        wanted = [characters(tokenizer.decode(tokens, skip_special=skip)) for skip in (True, False)]
        got = characters(text.encode())
        if got not in wanted and (whole or not any(text.startswith(got) for text in wanted)):
            self.report("text", f"emitted {got!r}, the tokens say {wanted[0]!r}")


def differs(fed: Sequence[int], wanted: Sequence[int], start: int) -> str:
    """Where tokens that were fed from position `start` on are first not those of the prompt."""
    at = next(n for n, pair in enumerate(zip(fed, wanted, strict=False)) if pair[0] != pair[1])
    near = slice(max(0, at - NEAR), at + NEAR + 1)
    came, due = list(fed[near]), list(wanted[near])
    return f"fed {fed[at]} at position {start + at}, the prompt has {wanted[at]} (came {came}, due was {due})"


def characters(data: bytes) -> str:
    """The characters in some bytes, without any that stand for bytes that are none."""
    return data.decode(errors="ignore").replace("\ufffd", "")
