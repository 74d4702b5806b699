"""The host functions of a generation whose logits are looked at: shaped for the guest, or reported.

Generations that ask for neither run on the plain ones, and cost what they did before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.steps import Answer, Steps, aside

from realm_reference.orchestration.events import Failed, FailureKind
from realm_reference.orchestration.grammar import GrammarFault
from realm_reference.orchestration.hostcalls import HostCalls
from realm_reference.orchestration.hostfunctions_v1 import HostFunctionsV1
from realm_reference.orchestration.hostfunctions_v2 import STOP_TOKEN, HostFunctionsV2
from realm_reference.orchestration.logits import F32
from realm_reference.orchestration.logprobs import TokenLogprobs
from realm_reference.orchestration.request import GenerationRequest
from realm_reference.orchestration.shaping import Shaper, Trail

U32 = NDArray[np.uint32]


class _Shaped(HostCalls):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._shaper = Shaper(self._request)

    def _aside(self, shape: Callable[[], None]) -> Steps[None]:
        """Logits are shaped where other guests do not wait for it: a grammar may take its time."""
        try:
            yield from aside(shape)
        except GrammarFault:
            raise self._too_complex() from None

    def _too_complex(self) -> AbiError:
        message = "The response format needs more work for a token than this server allows."
        self._generation.cancel(Failed(FailureKind.FORMAT, message))
        return AbiError(ErrorCode.limit_exceeded, "the grammar")


class ShapedFunctionsV2(_Shaped, HostFunctionsV2):
    """Knows what each session holds, and so the tokens that a row of logits follows."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._trails: dict[int, Trail] = {}

    def realm_session_open(self, model: int, /) -> int:
        """As the plain one; the session's trail begins."""
        handle = super().realm_session_open(model)
        self._trails[handle] = Trail()
        return handle

    def realm_session_fork(self, session: int, /) -> int:
        """As the plain one; the copy has the trail so far."""
        handle = super().realm_session_fork(session)
        self._trails[handle] = self._trails[session].fork()
        return handle

    def realm_session_truncate(self, session: int, length: int, /) -> int:
        """As the plain one; the trail ends there too."""
        answer = super().realm_session_truncate(session, length)
        self._trails[session].truncate(length)
        return answer

    def realm_session_free(self, session: int, /) -> int:
        """As the plain one."""
        answer = super().realm_session_free(session)
        del self._trails[session]
        return answer

    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> Steps[int]:
        """As the plain one; what it wrote is then shaped where it lies."""
        given = ids.copy()  # a guest's window for the logits may be the one of the ids
        answer = yield from super().realm_forward(session, ids, logits, rows)
        written = logits[: rows * self._vocab_size].reshape(rows, self._vocab_size)
        trail = self._trails[session]
        yield from self._aside(lambda: self._shaper.forwarded(trail, given, written))
        return answer

    def realm_emit(self, session: int, token: int, text: str, logprob: float, flags: int, /) -> Answer:
        """As the plain one, with the log probabilities of the host's own making."""
        self._spend()
        self._session(session)
        known = None if math.isnan(logprob) else logprob
        scores = self._scores(session, token) if token < self._vocab_size else None
        return self.output.emit(token, text, known, stop_token=bool(flags & STOP_TOKEN), scores=scores)

    def _scores(self, session: int, token: int) -> TokenLogprobs | None:
        try:
            return self._shaper.emitted(self._trails[session], token)
        except ValueError as wrong:
            raise self.output.breach(str(wrong)) from None
        except GrammarFault:
            raise self._too_complex() from None


class ShapedFunctionsV1(_Shaped, HostFunctionsV1):
    """ABI v1 tells the host no token ids when it streams, so the answer's tokens are those that are embedded
    after its first text.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._trail = Trail()

    def realm_embed_tokens(self, model_id: int, ids: U32, out: F32, /) -> Steps[int]:
        """As the plain one; the trail gets the tokens."""
        given = ids.tolist()
        answer = yield from super().realm_embed_tokens(model_id, ids, out)
        self._trail.tokens += given
        return answer

    def realm_compute_logits(self, model_id: int, hidden: F32, out: F32, /) -> Steps[int]:
        """As the plain one; what it wrote is then shaped where it lies."""
        answer = yield from super().realm_compute_logits(model_id, hidden, out)
        written = out[: self._vocab_size]
        yield from self._aside(lambda: self._shaper.process(self._trail.tokens, written))
        return answer

    def realm_stream_token(self, text: str, /) -> Answer:
        """As the plain one; the first text begins the answer."""
        self._shaper.begin_answer(self._trail)
        return super().realm_stream_token(text)


def functions_v1(request: GenerationRequest) -> type[HostFunctionsV1]:
    """The v1 host functions that a request needs."""
    return ShapedFunctionsV1 if request.shaped else HostFunctionsV1
