"""Planted defects behind the border of v2: sessions, handles, tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from realm_abi.errors import AbiError
from realm_abi.hostapi import F32, U32

from realm_mocks.host.defects import planted
from realm_mocks.host.functions_v2 import FunctionsV2
from realm_mocks.host.probed import Functions, ProbedMock
from realm_mocks.host.sessions import Session, SessionTable


def _v2(functions: type[FunctionsV2]) -> type[ProbedMock]:
    """A host with other functions for v2 guests."""

    class Host(ProbedMock):
        def functions(self) -> Functions:
            if self.guest.version == 1:
                return super().functions()
            return functions(self.scripted, self.sessions, next(self._owners))

    return Host


def _sessions(table: Callable[[int], SessionTable]) -> type[ProbedMock]:
    """A host with another table of sessions."""

    class Host(ProbedMock):
        def __init__(self, wasm: bytes) -> None:
            super().__init__(wasm)
            self.sessions = table(self.scripted.context_length)

    return Host


class _AnyOwner(SessionTable):
    def get(self, owner: int, handle: int) -> Session:
        found = next((session for session in self if session.handle == handle), None)
        return found or super().get(owner, handle)


planted("foreign-sessions", "any guest may use any session", "5", "ISOLATE-003")(_sessions(_AnyOwner))


class _NeverFreed(SessionTable):
    def free(self, owner: int, handle: int) -> None:
        self.get(owner, handle)


planted("free-does-nothing", "a freed handle goes on working", "5", "*-HANDLE-*")(_sessions(_NeverFreed))


class _OneCache(SessionTable):
    def open(self, owner: int) -> Session:
        session = super().open(owner)
        others = [other for other in self.owned(owner) if other is not session]
        session.tokens = others[0].tokens if others else session.tokens
        return session


planted("one-cache-for-all", "a guest's sessions share one cache", "8", "ISOLATE-005")(_sessions(_OneCache))


class _LastOnesCache(SessionTable):
    last: Session | None = None
    carried: tuple[int, ...] = ()

    def open(self, owner: int) -> Session:
        session = super().open(owner)
        if self.last is not None and self.last.owner != owner:
            self.carried = tuple(self.last.tokens[-3:])
        session.tokens = list(self.carried)
        self.last = session
        return session


planted("next-sees-previous", "a request begins with the cache of the one before", "18", "ISOLATE-*")(
    _sessions(_LastOnesCache)
)


class _NoTruncation(SessionTable):
    def truncate(self, owner: int, handle: int, length: int) -> None:
        if length > len(self.get(owner, handle).tokens):
            super().truncate(owner, handle, length)


planted("truncate-does-nothing", "what was cut off still has an effect", "9", "EFFECT-005")(
    _sessions(_NoTruncation)
)


class _AnyLength(SessionTable):
    def truncate(self, owner: int, handle: int, length: int) -> None:
        del self.get(owner, handle).tokens[length:]


planted("truncate-takes-any-length", "a length beyond the session is a success", "9", "SESSION-TRUNCATE-*")(
    _sessions(_AnyLength)
)


class _Alias(SessionTable):
    def fork(self, owner: int, handle: int) -> Session:
        source, copy = self.get(owner, handle), self.open(owner)
        copy.tokens = source.tokens
        return copy


planted("fork-is-an-alias", "a fork and its original share their cache", "7", "EFFECT-006")(_sessions(_Alias))


class _NoContext(SessionTable):
    def append(self, session: Session, ids: Any) -> None:
        session.tokens.extend(ids)


planted("context-has-no-end", "more tokens than the context holds are taken", "9", "CONTAIN-009")(
    _sessions(_NoContext)
)


class _Hoards(SessionTable):
    def open(self, owner: int) -> Session:
        self.hoard = [*getattr(self, "hoard", []), np.empty(1 << 16, np.uint8)]
        return super().open(owner)


planted("sessions-are-kept", "the memory of a session is never freed", "39", "CONTAIN-008")(
    _sessions(_Hoards)
)


class _OnlyItself(FunctionsV2):
    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> int:
        target = self.sessions.get(self.owner, session)
        before, target.tokens = target.tokens, []
        try:
            return super().realm_forward(session, ids, logits, rows)
        finally:
            target.tokens = [*before, *target.tokens]


planted("attends-to-itself", "a decode sees only the tokens of its own call", "7", "EFFECT-001")(
    _v2(_OnlyItself)
)


class _AppendsFirst(FunctionsV2):
    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> int:
        target = self.sessions.get(self.owner, session)
        try:
            return super().realm_forward(session, ids, logits, rows)
        except AbiError:
            target.tokens.extend(ids.tolist())
            raise


planted("appends-before-it-checks", "tokens of a call that fails stay in the session", "2", "EFFECT-003")(
    _v2(_AppendsFirst)
)


class _FirstRows(FunctionsV2):
    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> int:
        answer = super().realm_forward(session, ids, logits, rows)
        vocab = self.model.tokenizer.vocab_size
        logits[: rows * vocab] = logits[: rows * vocab].reshape(rows, vocab)[::-1].ravel()
        return answer


planted("rows-are-reversed", "the last token's logits come first", "19", "EFFECT-007")(_v2(_FirstRows))


class _WrapsIds(FunctionsV2):
    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> int:
        known = ids % np.uint32(self.model.tokenizer.vocab_size)
        return super().realm_forward(session, known, logits, rows)


planted("ids-are-not-checked", "a token outside the vocabulary is taken for another", "3", "FORWARD-IDS-*")(
    _v2(_WrapsIds)
)


class _AfterStop(FunctionsV2):
    def realm_emit(self, session: int, token: int, text: str, logprob: float, flags: int, /) -> int:
        return super().realm_emit(session, token, text, logprob, 0)


planted("emits-after-the-end", "tokens after a stop token are handed on", "16", "CONTAIN-010")(
    _v2(_AfterStop)
)


class _AnyToken(FunctionsV2):
    def realm_emit(self, session: int, token: int, text: str, logprob: float, flags: int, /) -> int:
        return super().realm_emit(session, token % self.model.tokenizer.vocab_size, text, logprob, flags)


planted("emits-any-token", "a token outside the vocabulary is handed on", "16", "CONTAIN-010")(_v2(_AnyToken))


class _AnyModel(FunctionsV2):
    def check_model(self, handle: int) -> None:
        del handle


planted("any-model-handle", "every number is a model", "5", "*-HANDLE-*")(_v2(_AnyModel))


class _WrapsDrafted(FunctionsV2):
    def realm_draft(self, session: int, ids: U32, out: U32, /) -> int:
        return super().realm_draft(session, ids % np.uint32(self.model.tokenizer.vocab_size), out)


planted("drafts-of-any-ids", "realm_draft takes tokens outside the vocabulary", "3", "DRAFT-IDS-*")(
    _v2(_WrapsDrafted)
)


@planted("sessions-outlive-requests", "what a request left open is the next one's", "18", "ISOLATE-004")
class _Outlived(ProbedMock):
    def functions(self) -> Functions:
        made = super().functions()
        if isinstance(made, FunctionsV2):
            made.owner = 1
        return made

    def cleared(self, functions: Functions) -> None:
        """Nothing is freed."""
