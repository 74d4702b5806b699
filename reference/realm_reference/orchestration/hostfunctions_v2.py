"""The host functions of ABI v2: sessions, whole chunks through all layers, emit. The guard has checked the
windows.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from realm_abi.contract import load_contract
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.steps import Answer, Steps, until

from realm_reference.orchestration.drafting import Drafter, Guesses
from realm_reference.orchestration.hostcalls import HostCalls, put

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
F32 = NDArray[np.float32]

_MODEL_INFO: Final = load_contract().structs["ModelInfo"]
_NO_TOKEN: Final = 0xFFFFFFFF
_ADD_BOS: Final = 1
_PARSE_SPECIAL: Final = 2
_SKIP_SPECIAL: Final = 1
STOP_TOKEN: Final = 1


class HostFunctionsV2(HostCalls):
    """Each method is the import of its name (see contract.toml for meaning, units and errors)."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._guesses = Guesses()
        self._drafters: dict[int, Drafter] = {}

    def close(self) -> None:
        """As of both versions; what became of guesses is counted."""
        for session in list(self._sessions):
            self._leave(session)
        super().close()
        if self._guesses.made:
            self._engine.count_guesses(self._guesses.made, self._guesses.kept)

    def realm_abi_version(self) -> int:
        """2."""
        return 2

    def realm_model_info(self, model: int, out: U8, /) -> int:
        """Write ModelInfo; returns its bytes."""
        self._spend()
        self._own_model(model)
        config, tokenizer = self._model.config, self._model.tokenizer
        info = _MODEL_INFO.pack(
            vocab_size=self._vocab_size,
            hidden_size=config.hidden_size,
            num_layers=config.n_layers,
            context_length=self._model.context_length,
            bos_token=_NO_TOKEN if tokenizer.bos_id is None else tokenizer.bos_id,
            eos_token=tokenizer.eos_ids[0] if tokenizer.eos_ids else _NO_TOKEN,
        )
        return put(np.frombuffer(info, np.uint8), out)

    def realm_encode(self, model: int, text: str, flags: int, out: U32, /) -> Answer:
        """Write the text's token ids, unless `out` is empty; returns their count."""
        self._spend()
        self._own_model(model)
        return self._soon(len(text), lambda: self._encode(text, flags, out))

    def _encode(self, text: str, flags: int, out: U32) -> int:
        ids = self._given_ids(text)
        if ids is None:
            ids = self._model.tokenizer.encode(
                text, add_bos=bool(flags & _ADD_BOS), parse_special=bool(flags & _PARSE_SPECIAL)
            )
        return put(np.array(ids, np.uint32), out) if len(out) else len(ids)

    def realm_decode(self, model: int, ids: U32, flags: int, out: U8, /) -> Answer:
        """Write the tokens' raw bytes, unless `out` is empty; returns how many."""
        self._spend()
        self._own_model(model)
        return self._soon(len(ids), lambda: self._spell(ids, flags, out))

    def _spell(self, ids: U32, flags: int, out: U8) -> int:
        text = self._decode(ids, skip_special=bool(flags & _SKIP_SPECIAL))
        return put(np.frombuffer(text, np.uint8), out) if len(out) else len(text)

    def realm_model_adapter(self, model: int, id: str, /) -> int:
        """The handle of the model with the adapter of that name, or with none for an empty one."""
        self._spend()
        self._own_model(model)
        if len(self._models) > self._limits.sessions:
            raise AbiError(ErrorCode.limit_exceeded, f"{self._limits.sessions} models beside the request's")
        handle = max(self._models) + 1
        self._models[handle] = self._adapter(id) if id else None
        return handle

    def realm_session_open(self, model: int, /) -> int:
        """Open an empty session; returns its handle."""
        self._spend()
        self._own_model(model)
        self._room_for_session()
        adapter = self._models[model]
        return self._adopt(self._engine.open(self._request.tenant, self._generation.stepped, adapter))

    def realm_session_fork(self, session: int, /) -> int:
        """Copy a session; returns the copy's handle."""
        self._spend()
        original = self._session(session)
        self._room_for_session()
        return self._adopt(original.fork())

    def realm_session_truncate(self, session: int, length: int, /) -> int:
        """Forget the tokens from `length` on."""
        self._spend()
        target = self._session(session)
        before = target.length
        target.truncate(length)
        self._guesses.truncated(session, before, length, self.output.tokens)
        return 0

    def realm_session_free(self, session: int, /) -> int:
        """Free a session. Not counted: a guest whose budget is spent may still clean up."""
        self._session(session)
        self._leave(session)
        self._sessions.pop(session).free()
        return 0

    def _leave(self, session: int) -> None:
        """Before a session is freed."""
        self._guesses.left(session, self._sessions[session].length, self.output.tokens)
        if (drafter := self._drafters.pop(session, None)) is not None:
            drafter.free()

    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> Steps[int]:
        """Append ids [T]; write the logits of the last `rows`, [rows * V]. Waits for the engine."""
        self._spend()
        target, count = self._session(session), len(ids)  # before the logits are written where they may lie
        result = yield from until(target.start_forward(ids, rows))
        put(result.reshape(-1), logits)
        self._guesses.fed(session, target.length, count, self.output.tokens)
        return rows

    def realm_draft(self, session: int, ids: U32, out: U32, /) -> Steps[int]:
        """Write what the draft model proposes after the session's tokens and `ids`; returns how many."""
        self._spend()
        target = self._session(session)
        if (engine := self._engine.draft) is None:
            raise AbiError(ErrorCode.unsupported, "there is no draft model")
        if len(ids) and int(ids.max()) >= self._vocab_size:
            raise AbiError(ErrorCode.invalid_argument, f"token {int(ids.max())} is outside the vocabulary")
        if session not in self._drafters:
            following = engine.open(self._request.tenant)
            self._generation.on_cancel(following.cancel)
            self._drafters[session] = Drafter(following, engine.context_length)
        return self._draft(self._drafters[session], [*target.tokens, *ids.tolist()], out)

    def _draft(self, drafter: Drafter, tokens: list[int], out: U32) -> Steps[int]:
        proposed = yield from drafter.propose(tokens, len(out) if tokens else 0)
        return put(np.array(proposed, np.uint32), out)

    def realm_emit(self, session: int, token: int, text: str, logprob: float, flags: int, /) -> Answer:
        """Hand on one sampled token; returns 1 when the guest shall stop."""
        self._spend()
        self._session(session)
        known = None if math.isnan(logprob) else logprob
        return self.output.emit(token, text, known, stop_token=bool(flags & STOP_TOKEN))
