"""The imports of ABI v2 over scripted sessions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.hostapi import F32, U8, U32, HandleKind

from realm_mocks.host.findings import Findings
from realm_mocks.host.functions import NOTHING, HostFunctions
from realm_mocks.host.model import ScriptedModel
from realm_mocks.host.outcome import Answer
from realm_mocks.host.rules import Expected
from realm_mocks.host.sessions import SessionTable
from realm_mocks.host.watch_v2 import STOP_TOKEN, WatchV2

ADD_BOS, PARSE_SPECIAL = 1, 2
SKIP_SPECIAL = 1
ROUNDING = 1e-3
"""How far above 0 a logprob may be."""


class FunctionsV2(HostFunctions):
    """A `HostV2`. `sessions` may be shared by instances; `owner` tells them apart."""

    def __init__(self, model: ScriptedModel, sessions: SessionTable, owner: int) -> None:
        super().__init__(model)
        self.owner = owner
        self.sessions = sessions
        self.watch = WatchV2(NOTHING, model.tokenizer, self.findings)

    def begin(self, expected: Expected, findings: Findings) -> None:
        """Starts a run with rules of its own."""
        super().begin(expected, findings)
        self.watch = WatchV2(expected, self.model.tokenizer, findings)

    @property
    def tokens(self) -> list[int]:
        """The emitted tokens but stop tokens."""
        return [token for token, flags in self.watch.emits if not flags & STOP_TOKEN]

    def finished(self, answer: Answer) -> None:
        """Checks the end of a run and frees what the guest did not."""
        self.findings.finished(answer)
        kept = [it for it in self.sessions.owned(self.owner) if it.handle not in self.findings.freed]
        self.watch.finished(answer, "".join(self.texts), kept)
        self.sessions.drop(self.owner)

    def dims(self, kind: HandleKind, handle: int, /) -> Mapping[str, int]:
        """The dimensions of a model, or of a session's."""
        if kind == "session":
            self.sessions.get(self.owner, handle)
            return self.model.dims()
        return super().dims(kind, handle)

    def realm_abi_version(self) -> int:
        """Version 2."""
        return 2

    def realm_model_info(self, model: int, out: U8, /) -> int:
        """Writes the ModelInfo."""
        self.check_model(model)
        info = self.model.info()
        out[: len(info)] = np.frombuffer(info, dtype=np.uint8)
        return len(info)

    def realm_encode(self, model: int, text: str, flags: int, out: U32, /) -> int:
        """Tokens of a text; an empty `out` asks for their count."""
        self.check_model(model)
        asked = {"add_bos": bool(flags & ADD_BOS), "parse_special": bool(flags & PARSE_SPECIAL)}
        if not out.size:
            return len(self.model.tokenizer.encode(text, **asked))
        return self.model.encode(text, out, **asked)

    def realm_decode(self, model: int, ids: U32, flags: int, out: U8, /) -> int:
        """Bytes of tokens; an empty `out` asks for their number."""
        self.check_model(model)
        self.model.check_tokens(ids)
        skip = bool(flags & SKIP_SPECIAL)
        if not out.size:
            return len(self.model.tokenizer.decode(ids.tolist(), skip_special=skip))
        return self.model.decode(ids, out, skip_special=skip)

    def realm_model_adapter(self, model: int, id: str, /) -> int:
        """Only the model itself is there: the empty id."""
        self.check_model(model)
        if id:
            raise AbiError(ErrorCode.not_found, f"no adapter {id!r}")
        return model

    def realm_session_open(self, model: int, /) -> int:
        """A new session."""
        self.check_model(model)
        session = self.sessions.open(self.owner)
        self.watch.opened(session)
        return session.handle

    def realm_session_fork(self, session: int, /) -> int:
        """A copy of a session."""
        copy = self.sessions.fork(self.owner, session)
        self.watch.opened(copy, source=session)
        return copy.handle

    def realm_session_truncate(self, session: int, length: int, /) -> int:
        """Shortens a session."""
        self.sessions.truncate(self.owner, session, length)
        return 0

    def realm_session_free(self, session: int, /) -> int:
        """Ends a session."""
        self.sessions.free(self.owner, session)
        return 0

    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> int:
        """Feeds ids `[n]`, writes the script's logits `[rows, vocab_size]` for the last rows."""
        target = self.sessions.get(self.owner, session)
        if not ids.size:
            raise AbiError(ErrorCode.invalid_argument, "no tokens to feed")
        self.model.check_tokens(ids)
        tokens = ids.tolist()
        past = len(target.tokens)
        self.sessions.append(target, tokens)
        self.watch.feeding(target, past, tokens)
        ends = range(len(target.tokens) - rows + 1, len(target.tokens) + 1)
        answer = np.zeros((rows, self.model.tokenizer.vocab_size), dtype=np.float32)
        for row, end in zip(answer, ends, strict=True):
            row[:] = self.logits(target.tokens[:end])
        logits[: answer.size] = answer.ravel()
        self.watch.answered(target, answer)
        return rows

    def realm_draft(self, session: int, ids: U32, out: U32, /) -> int:
        """Drafts from the model's drafter, `unsupported` without one."""
        target = self.sessions.get(self.owner, session)
        if self.model.draft is None:
            raise AbiError(ErrorCode.unsupported, "this model drafts nothing")
        self.model.check_tokens(ids)
        drafted = self.model.draft((*target.tokens, *ids.tolist()), len(out))[: len(out)]
        out[: len(drafted)] = drafted
        return len(drafted)

    def realm_emit(self, session: int, token: int, text: str, logprob: float, flags: int, /) -> int:
        """Takes a token and its text."""
        target = self.sessions.get(self.owner, session)
        self.model.check_tokens(np.asarray([token], dtype=np.uint32))
        if logprob > ROUNDING:
            raise AbiError(ErrorCode.invalid_argument, f"a logprob of {logprob}")
        if self.watch.emits and self.watch.emits[-1][1] & STOP_TOKEN:
            raise AbiError(ErrorCode.invalid_argument, "the token before was a stop token")
        self.watch.emitted(target, token, flags)
        self.texts.append(text)
        return 0
