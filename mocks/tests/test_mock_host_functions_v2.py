"""A right guest may do more than the built one: draft, ask many rows, roll back, fork. Played in Python."""

from __future__ import annotations

import numpy as np
import pytest
from realm_abi.errors import AbiError, ErrorCode, FinishReason
from realm_mocks.host import Answer, Hashed, SessionTable, default_vocabulary
from realm_mocks.host.findings import Findings
from realm_mocks.host.functions_v2 import FunctionsV2
from realm_mocks.host.model import ScriptedModel
from realm_mocks.host.rules import Expected

VOCABULARY = default_vocabulary()
VOCAB = VOCABULARY.vocab_size
PROMPT = tuple(VOCABULARY.encode("the prompt", add_bos=True))


class Player:
    """Calls the host's functions as a guest would."""

    def __init__(self, max_tokens: int) -> None:
        self.model = ScriptedModel(Hashed(11), draft=self.guess, context_length=64)
        self.host = FunctionsV2(self.model, SessionTable(64), owner=1)
        self.findings = Findings()
        expected = Expected(PROMPT, max_tokens, greedy=True, context_length=64)
        self.host.begin(expected, self.findings)
        self.session = self.host.realm_session_open(self.model.handle)

    def truth(self, tokens: tuple[int, ...]) -> int:
        return int(self.model.logits(tokens, len(PROMPT)).argmax())

    def guess(self, tokens: tuple[int, ...], most: int) -> list[int]:
        """Drafts that are right at first and wrong from the third on."""
        drafted: list[int] = []
        for n in range(most):
            drafted.append((self.truth((*tokens, *drafted)) + (n > 1)) % VOCAB)
        return drafted

    def forward(self, ids: tuple[int, ...], rows: int, session: int | None = None) -> list[int]:
        """Feeds tokens; the most likely token of each of the last rows."""
        logits = np.empty(rows * VOCAB, dtype=np.float32)
        given = np.asarray(ids, dtype=np.uint32)
        assert self.host.realm_forward(session or self.session, given, logits, rows) == rows
        return [int(row.argmax()) for row in logits.reshape(rows, VOCAB)]

    def emit(self, token: int) -> None:
        text = VOCABULARY.decode([token]).decode(errors="replace")
        self.host.realm_emit(self.session, token, text, float("nan"), 0)

    def draft(self, last: int, most: int) -> list[int]:
        out = np.zeros(most, dtype=np.uint32)
        count = self.host.realm_draft(self.session, np.asarray([last], dtype=np.uint32), out)
        return [int(token) for token in out[:count]]

    def finish(self) -> set[str]:
        self.findings.before_call("realm_session_free", [self.session])
        self.host.realm_session_free(self.session)
        self.host.finished(Answer(reason=FinishReason.max_tokens))
        return {finding.rule for finding in self.findings.seen} - {"text"}


def test_speculation_with_rollback_breaks_no_rule_and_says_what_plain_decoding_says() -> None:
    player = Player(max_tokens=9)
    (last,) = player.forward(PROMPT, 1)
    player.emit(last)
    emitted = [last]
    while len(emitted) < 9:
        drafts = player.draft(last, 4)
        best = player.forward((last, *drafts), 5)
        accepted = next(n for n in range(5) if n == 4 or best[n] != drafts[n])
        assert accepted == 2
        player.host.realm_session_truncate(player.session, len(PROMPT) + len(emitted) + accepted)
        for token in best[: min(accepted + 1, 9 - len(emitted))]:
            player.emit(token)
            emitted.append(token)
        last = emitted[-1]
    plain = list(PROMPT)
    for _ in range(9):
        plain.append(player.truth(tuple(plain)))
    assert emitted == plain[len(PROMPT) :]
    assert player.finish() == set()


def test_a_rejected_draft_that_stays_in_the_session_is_seen() -> None:
    player = Player(max_tokens=4)
    (last,) = player.forward(PROMPT, 1)
    player.emit(last)
    best = player.forward((last, (player.truth((*PROMPT, last)) + 1) % VOCAB), 2)
    player.emit(best[0])
    player.forward((best[0],), 1)
    assert "history" in player.finish()


def test_a_fork_goes_on_by_itself_from_the_same_past() -> None:
    player = Player(max_tokens=2)
    (last,) = player.forward(PROMPT, 1)
    player.emit(last)
    copy = player.host.realm_session_fork(player.session)
    assert player.forward((last,), 1, copy) == player.forward((last,), 1)
    player.host.realm_session_free(copy)
    with pytest.raises(AbiError) as caught:
        player.forward((last,), 1, copy)
    assert caught.value.code is ErrorCode.invalid_handle


def test_a_prompt_may_be_forked_and_its_own_session_freed() -> None:
    player = Player(max_tokens=1)
    (last,) = player.forward(PROMPT, 1)
    first, player.session = player.session, player.host.realm_session_fork(player.session)
    player.host.realm_session_free(first)
    player.emit(last)
    assert player.finish() == set()


def test_logits_that_no_fork_makes_use_of_are_missed() -> None:
    player = Player(max_tokens=1)
    player.forward(PROMPT, 1)
    player.host.realm_session_fork(player.session)
    assert "emit-missing" in player.finish()


def test_what_was_rolled_back_may_be_fed_again() -> None:
    player = Player(max_tokens=3)
    (first,) = player.forward(PROMPT, 1)
    player.emit(first)
    (second,) = player.forward((first,), 1)
    player.emit(second)
    player.host.realm_session_truncate(player.session, len(PROMPT))
    (third,) = player.forward((first, second), 1)
    player.emit(third)
    assert player.finish() == set()


def test_a_failed_forward_leaves_the_session_as_it_was() -> None:
    player = Player(max_tokens=2)
    player.forward(PROMPT, 0)
    for ids, code in [((VOCAB,), ErrorCode.invalid_argument), ((1,) * 64, ErrorCode.context_full)]:
        with pytest.raises(AbiError) as caught:
            player.forward(ids, 1)
        assert caught.value.code is code
    assert tuple(player.host.sessions.get(1, player.session).tokens) == PROMPT
