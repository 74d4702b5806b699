"""Follows a v2 guest through its sessions and reports what breaks a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from realm_abi.errors import ErrorCode, FinishReason

from realm_mocks.host.findings import Findings, characters, differs
from realm_mocks.host.outcome import Answer
from realm_mocks.host.rules import Expected
from realm_mocks.host.sessions import Session
from realm_mocks.host.vocabulary import Tokenizer

STOP_TOKEN = 1
"""emit's flag bit 0: the token ends the text and its own bytes are not in it."""


@dataclass
class Progress:
    """A session's side of the rules: what was emitted on it, and what the last forward allows.

    `heirs` are the forks that were made since: they have the same logits, and one token of them is enough.
    """

    emitted: list[int] = field(default_factory=list)
    rows: NDArray[np.float32] | None = None
    since: int = 0
    heirs: list[Progress] = field(default_factory=list)

    @property
    def is_waiting(self) -> bool:
        """Whether there are logits of which nobody has emitted a token."""
        waits = self.rows is not None and not self.since
        return waits and all(heir.is_waiting for heir in self.heirs)


class WatchV2:
    """The rules of a v2 generation, one instance a run."""

    def __init__(self, expected: Expected, tokenizer: Tokenizer, findings: Findings) -> None:
        self.emits: list[tuple[int, int]] = []
        self.completion_tokens = 0
        """Emitted tokens that are not stop tokens."""
        self._expected = expected
        self._tokenizer = tokenizer
        self._findings = findings
        self._progress: dict[int, Progress] = {}

    def opened(self, session: Session, source: int | None = None) -> None:
        """A new session, or with `source` the fork of another."""
        past = self._progress[source] if source is not None else Progress()
        copy = Progress(list(past.emitted), past.rows, past.since)
        past.heirs.append(copy)
        self._progress[session.handle] = copy

    def feeding(self, session: Session, start: int, ids: Sequence[int]) -> None:
        """Tokens were appended to a session that had `start` of them."""
        prompt = self._expected.prompt
        progress = self._progress[session.handle]
        if start < len(prompt):
            wanted = prompt[start : start + len(ids)]
            if tuple(ids[: len(wanted)]) != wanted:
                self._findings.report("prompt", differs(ids, wanted, start))
            return
        if not progress.since:
            self._findings.report("emit-missing", f"token {ids[0]} is fed, but nothing was emitted before it")
        elif session.tokens[len(prompt) :][: len(progress.emitted)] != progress.emitted:
            past = session.tokens[len(prompt) : start]
            self._findings.report(
                "history", f"fed {ids[0]} after {past}, but emitted were {progress.emitted}"
            )

    def answered(self, session: Session, rows: NDArray[np.float32]) -> None:
        """A forward wrote logits `[rows, vocab]` for the session's last positions."""
        progress = self._progress[session.handle]
        complete = len(session.tokens) >= len(self._expected.prompt)
        progress.rows, progress.since = (rows if complete and len(rows) else None), 0
        progress.heirs.clear()

    def emitted(self, session: Session, token: int, flags: int) -> None:
        """A token was emitted on a session."""
        self.emits.append((token, flags))
        self.completion_tokens += not flags & STOP_TOKEN
        progress = self._progress[session.handle]
        progress.emitted.append(token)
        progress.since += 1
        missing = len(self._expected.prompt) - len(session.tokens)
        if missing > 0:
            self._findings.report(
                "prompt", f"token {token} is emitted, and the prompt's last {missing} tokens were not fed"
            )
        elif progress.rows is None or progress.since > len(progress.rows):
            self._findings.report("emit-extra", f"token {token} is emitted without new logits")
        elif self._expected.greedy:
            row = progress.rows[progress.since - 1]
            if not np.isnan(row).any() and row[token] < row.max():
                best = np.flatnonzero(row == row.max()).tolist()
                self._findings.report("greedy", f"token {token} is emitted, the highest logits are {best}")
        if self.completion_tokens > self._expected.max_tokens:
            self._findings.report(
                "max-tokens",
                f"token {self.completion_tokens} is emitted, max_tokens is {self._expected.max_tokens}",
            )

    @property
    def _is_full(self) -> bool:
        return self.completion_tokens >= self._expected.room

    def finished(self, answer: Answer, text: str, left_open: Sequence[Session]) -> None:
        """Generate returned; `text` is all that was emitted, `left_open` the sessions that were not freed."""
        if answer.fault:
            return
        if left_open:
            self._findings.report("session-leak", f"{len(left_open)} sessions were not freed")
        tokens = [token for token, flags in self.emits if not flags & STOP_TOKEN]
        whole = answer.reason in (FinishReason.stop_token, FinishReason.max_tokens)
        self._findings.check_text(self._tokenizer, tokens, text, whole=whole)
        if answer.reason is None:
            return
        if not self._findings.stopped and self._expected.max_tokens:
            self._check_unemitted()
        self._check_reason(answer.reason)
        if answer.reason is FinishReason.stop_string:
            self._check_stop_string(tokens, text)

    def _check_unemitted(self) -> None:
        for handle, progress in self._progress.items():
            if progress.is_waiting:
                self._findings.report(
                    "emit-missing", f"session {handle} ended with logits and no token of them"
                )

    def _check_reason(self, reason: FinishReason) -> None:
        context_ended = bool(self.emits) and self._findings.fatal == ErrorCode.context_full
        ended_by_token = bool(self.emits) and bool(self.emits[-1][1] & STOP_TOKEN)
        wrong = ""
        if reason is FinishReason.stop_token and not ended_by_token:
            wrong = "stop_token, but the last emit was none"
        elif reason is not FinishReason.stop_token and ended_by_token and not self._findings.stopped:
            wrong = f"{reason.name}, but the last emit was a stop token"
        elif reason is FinishReason.max_tokens and not (context_ended or self._is_full):
            wrong = f"max_tokens, but only {self.completion_tokens} were emitted"
        elif reason is FinishReason.stopped and not self._findings.stopped:
            wrong = "stopped, but nobody asked it to"
        if wrong:
            self._findings.report("finish-reason", f"generate returned {wrong}")

    def _check_stop_string(self, tokens: Sequence[int], text: str) -> None:
        whole = characters(self._tokenizer.decode(tokens))
        text = characters(text.encode())
        asked = list(self._expected.stop_strings)
        if any(whole.startswith(characters((text + stop).encode())) for stop in asked):
            return
        for stop in asked:
            at = whole.find(stop)
            if 0 <= at < len(text) and text.startswith(whole[:at]):
                goes_on = f"goes on after the stop string {stop!r} has begun at {at}"
                self._findings.report("text", f"emitted {text!r}, which {goes_on}")
                return
        self._findings.report("finish-reason", f"stop_string of {asked}, but after {text!r} none follows")
