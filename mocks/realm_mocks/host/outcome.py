"""What came of one generation: the answer, and all that was seen on the way."""

from __future__ import annotations

from dataclasses import dataclass

from realm_abi.errors import ErrorCode, FinishReason
from realm_abi.instance import GuestFault

from realm_mocks.host.canaries import Stain
from realm_mocks.host.faults import Fault
from realm_mocks.host.record import Call, Trace
from realm_mocks.host.rules import Finding

TAIL = 12


@dataclass(frozen=True)
class Answer:
    """How `generate` ended; one of the four is set."""

    reason: FinishReason | None = None
    """A v2 guest finished."""
    returned: str | None = None
    """A v1 guest finished, with this text."""
    error: ErrorCode | None = None
    """It answered an error; a v1 guest's is that of its last host call."""
    fault: GuestFault | None = None
    """It broke."""

    @property
    def ok(self) -> bool:
        """Whether it finished."""
        return self.error is None and self.fault is None

    def __str__(self) -> str:
        if self.reason is not None:
            return f"reason {self.reason.name}"
        if self.error is not None:
            return f"error {self.error.name}"
        return f"fault {self.fault}" if self.fault else f"text {self.returned!r}"


@dataclass(frozen=True)
class Run:
    """One call of `generate`.

    `texts` is what it emitted, call by call; `tokens` are the emitted tokens but stop tokens (of a v1 guest
    those that it fed again, and the last where temperature 0 tells it). `findings` are the rules that the
    guest broke, `stains` what the host wrote where it must not.
    """

    answer: Answer
    texts: tuple[str, ...]
    tokens: tuple[int, ...]
    trace: Trace
    findings: tuple[Finding, ...]
    faults_met: tuple[Fault, ...]
    faults_unmet: tuple[Fault, ...]
    stains: tuple[Stain, ...]
    memory_bytes: int

    @property
    def reason(self) -> FinishReason | None:
        """Why a v2 guest finished."""
        return self.answer.reason

    @property
    def error(self) -> ErrorCode | None:
        """The error that generate answered."""
        return self.answer.error

    @property
    def fault(self) -> GuestFault | None:
        """How the guest broke."""
        return self.answer.fault

    @property
    def ok(self) -> bool:
        """Whether it finished."""
        return self.answer.ok

    @property
    def text(self) -> str:
        """The emitted texts, joined."""
        return "".join(self.texts)

    @property
    def rules(self) -> set[str]:
        """Names of the rules that were broken."""
        return {finding.rule for finding in self.findings}

    def calls(self, function: str) -> list[Call]:
        """The calls of one function, in order."""
        return self.trace.of(function)

    def check(self, *, error: ErrorCode | None = None) -> Run:
        """This run, if it ended as it should (well, or with `error`) and neither guest nor host did wrong.

        Else AssertionError says what, with the last calls. A fault that was planned but not met is wrong too.
        """
        wrong = [str(item) for item in (*self.findings, *self.stains)]
        wrong += [f"never met: {fault}" for fault in self.faults_unmet]
        if self.fault or self.error != error:
            wrong.append(f"ended with {self.answer}")
        if wrong:
            raise AssertionError("\n".join([*wrong, "the last calls:", str(self.trace[-TAIL:])]))
        return self
