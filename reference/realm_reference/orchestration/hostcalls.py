"""What the host functions of both ABI versions share: the one model that a guest may use, and its budget of
calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.hostapi import HandleKind
from realm_abi.steps import Answer, Steps, aside, until

from realm_reference.engine import Engine, Session
from realm_reference.engine.adapters import LoadedAdapter
from realm_reference.model.model import Model
from realm_reference.orchestration.events import Failed, FailureKind, PromptScored
from realm_reference.orchestration.limits import GuestLimits
from realm_reference.orchestration.output import Output, Sink
from realm_reference.orchestration.request import GenerationRequest
from realm_reference.orchestration.scoring import score_prompt

# The handle of the model that the request is for, with its adapter if it has one. Handles are indices into a
# guest's own tables: it sees nothing of others.
MODEL_HANDLE: Final = 1

# Characters or tokens, beyond which turning one into the other takes milliseconds.
_LONG: Final = 2048

Scalar = TypeVar("Scalar", bound=np.generic)


class HostCalls:
    """The state behind one guest instance; freed with it. Subclasses add the imports of their ABI version."""

    def __init__(
        self,
        model: Model,
        engine: Engine,
        request: GenerationRequest,
        generation: Sink,
        limits: GuestLimits,
    ) -> None:
        self._model = model
        self._engine = engine
        self._generation = generation
        self._limits = limits
        self._vocab_size = model.vocab_size
        self._request = request
        self._calls_left = limits.host_calls_base + limits.host_calls_per_token * (
            request.prompt.tokens + request.max_tokens
        ) * self.calls_per_token(model)
        self._models: dict[int, LoadedAdapter | None] = {MODEL_HANDLE: request.loaded}
        self._chosen: dict[str, LoadedAdapter] = {}  # by the guest, and held until its end
        self._sessions: dict[int, Session] = {}
        self._next_handle = 1
        self.output = Output(generation, request.max_tokens, self._vocab_size)

    @staticmethod
    def calls_per_token(model: Model) -> int:
        """How many times more calls than a v2 loop's this ABI version needs for a token."""
        return 1

    def dims(self, kind: HandleKind, handle: int, /) -> Mapping[str, int]:
        """The sizes that windows without a capacity follow; the guard asks before it checks them."""
        if kind == "model":
            self._own_model(handle)
        else:
            self._session(handle)
        return {"hidden_size": self._model.config.hidden_size, "vocab_size": self._vocab_size}

    def completion_tokens(self) -> int:
        """Tokens generated so far."""
        return self.output.tokens

    def close(self) -> None:
        """Free what the guest left open."""
        for session in self._sessions.values():
            session.free()
        self._sessions.clear()
        for adapter in self._chosen.values():
            self._engine.adapters.release(adapter)
        self._chosen.clear()

    def score_prompt(self) -> Steps[None]:
        """Tell the log probabilities of the prompt's own tokens, if the request wants them."""
        request = self._request
        if not request.score_prompt or request.logprobs is None:
            return
        ids = request.prompt.tokenized(self._model.tokenizer)
        session = self._engine.open(request.tenant, adapter=request.loaded)
        self._generation.on_cancel(session.cancel)
        try:
            count = request.logprobs
            scores = yield from aside(lambda: score_prompt(session, ids, count))
        finally:
            session.free()
        waiting = self._generation.put(PromptScored(tuple(ids), scores))
        if waiting is not None:
            yield from until(waiting)

    def _given_ids(self, text: str) -> list[int] | None:
        """The ids that the client gave for its prompt, when `text` is that prompt."""
        prompt = self._request.prompt
        return list(prompt.ids) if prompt.ids is not None and text == prompt.text else None

    def _spend(self) -> None:
        """Count one host call; a guest that calls without end is stopped, long before the deadline."""
        self._calls_left -= 1
        if self._calls_left < 0:
            self._generation.cancel(Failed(FailureKind.LIMIT, "The guest module made too many host calls."))
            raise AbiError(ErrorCode.limit_exceeded, "host calls")

    def _own_model(self, handle: int) -> None:
        if handle not in self._models:
            raise AbiError(ErrorCode.invalid_handle, f"model {handle}")

    def _adapter(self, name: str) -> LoadedAdapter:
        """The adapter of that name, which the guest has from now on; AbiError `not_found` if there is none,
        `permission_denied` if its tenant may not use it.
        """
        loaded = self._request.loaded
        if loaded is not None and name == loaded.adapter.name:
            return loaded
        if name not in self._chosen:
            self._chosen[name] = self._engine.adapters.hold(name, self._request.tenant)
        return self._chosen[name]

    def _session(self, handle: int) -> Session:
        try:
            return self._sessions[handle]
        except KeyError:
            raise AbiError(ErrorCode.invalid_handle, f"session {handle}") from None

    def _adopt(self, session: Session) -> int:
        """Give a new session a handle of this guest's, and let a cancellation wake it. Handles are never
        used twice.
        """
        handle = self._next_handle
        self._next_handle += 1
        self._sessions[handle] = session
        self._generation.on_cancel(session.cancel)
        return handle

    def _room_for_session(self) -> None:
        if len(self._sessions) >= self._limits.sessions:
            raise AbiError(ErrorCode.limit_exceeded, f"{self._limits.sessions} sessions a request")

    def _soon(self, size: int, work: Callable[[], int]) -> Answer:
        """The answer of work on so many characters or tokens, which other guests do not wait for."""
        return work() if size <= _LONG else aside(work)

    def _decode(self, ids: NDArray[np.uint32], *, skip_special: bool) -> bytes:
        if len(ids) and int(ids.max()) >= self._vocab_size:
            raise AbiError(ErrorCode.invalid_argument, f"token {int(ids.max())} is outside the vocabulary")
        # Some files pad the logits beyond the last token; those ids have no text.
        tokenizer = self._model.tokenizer
        return tokenizer.decode(
            (i for i in ids.tolist() if i < tokenizer.vocab_size), skip_special=skip_special
        )


def put(values: NDArray[Scalar], out: NDArray[Scalar]) -> int:
    """Write all of `values` to the window `out` or nothing: `buffer_too_small`. Returns their count."""
    if len(values) > len(out):
        raise AbiError(ErrorCode.buffer_too_small, f"{len(values)} do not fit in {len(out)}")
    out[: len(values)] = values
    return len(values)
