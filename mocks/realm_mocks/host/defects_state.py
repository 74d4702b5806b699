"""Planted defects behind the border: sessions, caches, handles, models."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any

import numpy as np
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.hostapi import F32, U8, U32

from realm_mocks.host.defects import planted
from realm_mocks.host.functions_v1 import FunctionsV1
from realm_mocks.host.functions_v2 import FunctionsV2
from realm_mocks.host.probed import Functions, ProbedMock
from realm_mocks.host.sessions import Session, SessionTable


def _v1(functions: type[FunctionsV1]) -> type[ProbedMock]:
    """A host with other functions for v1 guests."""

    class Host(ProbedMock):
        def functions(self) -> Functions:
            return functions(self.scripted) if self.guest.version == 1 else super().functions()

    return Host


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


# ------------------------------------------------------------------------------------------------------- v2


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

# ------------------------------------------------------------------------------------------------------- v1


class _AppendOnly(FunctionsV1):
    def realm_forward_layer(self, model_id: int, layer: int, hidden: F32, position: int, out: F32, /) -> int:
        held = self.layers.held(layer) if layer < self.model.layers else position
        return super().realm_forward_layer(model_id, layer, hidden, max(held, position), out)


planted("position-is-ignored", "the cache only appends", "9", "EFFECT-010")(_v1(_AppendOnly))


class _LatePositions(FunctionsV1):
    def realm_forward_layer(self, model_id: int, layer: int, hidden: F32, position: int, out: F32, /) -> int:
        at = position - 1 if 0 < position < self.model.context_length else position
        return super().realm_forward_layer(model_id, layer, hidden, at, out)


planted("positions-slip", "positions are wrong after the first chunk", "19", "EFFECT-001")(
    _v1(_LatePositions)
)


class _PathsAreNames(FunctionsV1):
    def realm_host_load_model_by_name(self, name: str, /) -> int:
        return super().realm_host_load_model_by_name(posixpath.basename(name))


planted("names-are-paths", "a model's name may have ../ in it", "4", "REQUEST-010")(_v1(_PathsAreNames))


class _AnybodyRemoves(FunctionsV1):
    def realm_remove_model(self, model_id: int, /) -> int:
        self.check_model(model_id)
        return 0


planted("anybody-removes", "a guest may remove a model that is not its own", "5", "ISOLATE-006")(
    _v1(_AnybodyRemoves)
)


class _BelievesHeaders(FunctionsV1):
    def realm_store_model(self, gguf: U8, model_id: int, /) -> int:
        counts = gguf[8:24].view("<u8") if len(gguf) >= 24 else np.zeros(2, np.uint64)
        np.empty(min(int(counts.max()), 1 << 33), np.uint8)
        return super().realm_store_model(gguf, model_id)


planted("believes-a-header", "a count in a file's header goes into an allocation", "14", "REQUEST-011")(
    _v1(_BelievesHeaders)
)


class _AnyFile(FunctionsV1):
    def realm_store_model(self, gguf: U8, model_id: int, /) -> int:
        return model_id or self.model.handle + 1


planted("any-file-is-a-model", "bytes that are no GGUF file are stored", "14", "REQUEST-011")(_v1(_AnyFile))


class _KeepsFailed(FunctionsV1):
    def realm_forward_layer(self, model_id: int, layer: int, hidden: F32, position: int, out: F32, /) -> int:
        try:
            return super().realm_forward_layer(model_id, layer, hidden, position, out)
        except AbiError as error:
            if error.code is ErrorCode.invalid_argument and layer >= self.model.layers:
                self.layers.layer(0, hidden, 0, out.copy())
            raise


planted("failed-layers-stay", "a layer call that fails has changed the cache", "9", "EFFECT-004")(
    _v1(_KeepsFailed)
)


@planted("one-cache-for-a-model", "v1 guests of one model share its cache", "8", "ISOLATE-*")
class _OneV1Cache(ProbedMock):
    shared: FunctionsV1 | None = None

    def functions(self) -> Functions:
        made = super().functions()
        if isinstance(made, FunctionsV1):
            if self.shared is None:
                self.shared = made
            return _Sharing(self.scripted, self.shared)
        return made


class _Sharing(FunctionsV1):
    """Functions that use the layers of another instance."""

    def __init__(self, model: Any, other: FunctionsV1) -> None:
        self._other = other
        super().__init__(model)

    def begin(self, expected: Any, findings: Any) -> None:
        super().begin(expected, findings)
        self.layers = self._other.layers
