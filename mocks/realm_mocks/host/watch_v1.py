"""Follows a v1 guest through its layer-wise loop and reports what breaks a rule.

v1 never names the sampled token to the host: it shows in the next embed, and for the last one only in the
text. What is known: each logits at or after the prompt's end is one sample; each sample but a stop token is
streamed once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from realm_mocks.host.findings import Findings, differs
from realm_mocks.host.outcome import Answer
from realm_mocks.host.rules import Expected
from realm_mocks.host.vocabulary import Tokenizer


class WatchV1:
    """The rules of a v1 generation, one instance a run."""

    def __init__(self, expected: Expected, tokenizer: Tokenizer, findings: Findings) -> None:
        self.sampled: list[int] = []
        self.samples = 0
        self.streams = 0
        self._expected = expected
        self._tokenizer = tokenizer
        self._findings = findings
        self._fed = 0
        self._asked = 0
        self._since: int | None = None
        self._logits: NDArray[np.float32] | None = None

    def feeding(self, ids: Sequence[int]) -> None:
        """Tokens are about to be embedded."""
        prompt, start = self._expected.prompt, self._fed
        self._fed += len(ids)
        if start < len(prompt):
            wanted = prompt[start : start + len(ids)]
            if tuple(ids[: len(wanted)]) != wanted:
                self._findings.report("prompt", differs(ids, wanted, start))
            return
        self.sampled.extend(ids)
        self._check_greedy(ids[0])
        if self._since is None:
            self._findings.report("history", f"token {ids[0]} is fed with no logits to sample it from")
        elif self._since == 0:
            self._findings.report("emit-missing", f"token {ids[0]} is fed, but was not streamed")
        self._since = None

    def answered(self, logits: NDArray[np.float32], seen: int) -> None:
        """Logits `[vocab]` after `seen` tokens were written; those after all that was fed are a sample's."""
        if self._fed < len(self._expected.prompt) or seen != self._fed:
            self._asked = seen
            return
        self.samples += 1
        self._since, self._logits = 0, logits
        if self.samples > max(self._expected.max_tokens, 1):
            self._findings.report(
                "max-tokens", f"logits {self.samples} for {self._expected.max_tokens} tokens"
            )

    def streamed(self, text: str) -> None:
        """A text was streamed."""
        self.streams += 1
        missing = len(self._expected.prompt) - self._fed
        if missing > 0:
            self._findings.report(
                "prompt", f"a text is streamed, and the prompt's last {missing} tokens were not fed"
            )
            return
        if self._since is None:
            why = f"; those asked for were of position {self._asked - 1}" if self._asked else ""
            what = f"a text is streamed before there are logits of position {self._fed - 1}{why}"
            self._findings.report("emit-extra", what)
            return
        self._since += 1
        best = self._best()
        if not text and best and best <= set(self._expected.stop_tokens):
            self._findings.report("emit-extra", f"an empty text is streamed for the stop token {min(best)}")
        if self._since > 1:
            self._findings.report("emit-extra", "a second text is streamed for one token")

    def finished(self, answer: Answer, text: str) -> None:
        """Generate returned; `text` is all that was streamed."""
        if not answer.ok or answer.returned is None:
            return
        if not self._findings.stopped:
            self._check_last()
        if answer.returned != text.partition("\0")[0]:
            self._findings.report("text", f"generate returned {answer.returned!r}, streamed was {text!r}")
        if self._expected.greedy and len(self._best()) == 1:
            self._findings.check_text(self._tokenizer, self.tokens, text, whole=not self._findings.stopped)

    def _check_last(self) -> None:
        best = self._best()
        ended = bool(best & set(self._expected.stop_tokens)) or not best
        if self._since == 0 and not ended and self._expected.max_tokens:
            self._findings.report("emit-missing", f"the last token, {sorted(best)}, was not streamed")

    @property
    def tokens(self) -> list[int]:
        """The sampled tokens fed again, and the last one where temperature 0 tells it; no stop token."""
        best = self._best()
        known = self._since is not None and len(best) == 1
        last = best.difference(self._expected.stop_tokens) if known else ()
        return [*self.sampled, *last]

    def _best(self) -> set[int]:
        """At temperature 0 the tokens that may be sampled from the last logits; else nobody knows."""
        row = self._logits
        if not self._expected.greedy or row is None or np.isnan(row).any():
            return set()
        return set(np.flatnonzero(row == row.max()).tolist())

    def _check_greedy(self, token: int) -> None:
        best = self._best()
        if best and token not in best:
            self._findings.report("greedy", f"token {token} is fed, the highest logits are {sorted(best)}")
