"""What the host functions of both versions share: an instance's view of the model, and its runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.hostapi import HandleKind

from realm_mocks.host.faults import Poison
from realm_mocks.host.findings import Findings
from realm_mocks.host.model import ScriptedModel
from realm_mocks.host.outcome import Answer
from realm_mocks.host.rules import Expected
from realm_mocks.host.script import Logits

NOTHING = Expected()


class HostFunctions:
    """State of one guest instance. `begin` starts a run; `poison`, if set, spoils logits."""

    def __init__(self, model: ScriptedModel) -> None:
        self.model = model
        self.poison: Poison | None = None
        self.texts: list[str] = []
        self.expected = NOTHING
        self.findings = Findings()

    def begin(self, expected: Expected, findings: Findings) -> None:
        """Forgets the run before."""
        self.expected, self.findings = expected, findings
        self.texts = []

    def dims(self, kind: HandleKind, handle: int, /) -> Mapping[str, int]:
        """The model's dimensions, for the guard; `invalid_handle` for what is not this guest's."""
        del kind
        self.check_model(handle)
        return self.model.dims()

    def check_model(self, handle: int) -> None:
        """`invalid_handle` unless it is the model's."""
        if handle != self.model.handle:
            raise AbiError(ErrorCode.invalid_handle, f"no model {handle}")

    def logits(self, tokens: list[int]) -> Logits:
        """The script's logits `[vocab_size]` after `tokens`, poisoned if a fault says so."""
        logits = self.model.logits(tokens, len(self.expected.prompt))
        if self.poison:
            logits = logits.copy()
            where = slice(None) if self.poison.tokens is None else list(self.poison.tokens)
            logits[where] = np.float32(self.poison.value)
        return logits

    @property
    def tokens(self) -> list[int]:
        """The tokens generated in this run."""
        raise NotImplementedError

    def finished(self, answer: Answer) -> None:
        """Generate returned: the last rules are checked, what the guest left behind is cleared away."""
        raise NotImplementedError
