"""A session: one sequence of tokens, used by one guest, never shared."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray
from realm_abi.errors import AbiError, ErrorCode

from realm_reference.engine.caller import Caller
from realm_reference.engine.work import Floats, Forward


class Session(Caller):
    """The calls of ABI v2; `forward` waits for its turns in the engine's loop, `start_forward` does not.

    Every method raises AbiError: `context_full` past the model's context, `invalid_argument` for what the
    model cannot take, `invalid_handle` once freed, `cancelled` after `cancel`. An error leaves the sequence
    as it was before the call.
    """

    @property
    def length(self) -> int:
        """Tokens in the sequence."""
        self._check_open()
        return len(self._sequence.tokens)

    @property
    def tokens(self) -> list[int]:
        """The tokens themselves, a copy."""
        self._check_open()
        return list(self._sequence.tokens)

    def forward(self, ids: NDArray[np.uint32], rows: int = 1) -> Floats:
        """Append `ids` ([T], T >= 1) and return the logits of the last `rows` of them, [rows, V]."""
        return self.start_forward(ids, rows).result()

    def start_forward(self, ids: NDArray[np.uint32], rows: int = 1) -> Future[Floats]:
        """`forward` without waiting: what is wrong with the arguments is raised at once, the rest comes with
        the future, whose callbacks run on the engine's thread and have to be quick.
        """
        self._turn.acquire()
        try:
            self._check_open()
            self._check_ids(ids)
            if not 0 <= rows <= len(ids):
                raise AbiError(ErrorCode.invalid_argument, f"rows is {rows}, with {len(ids)} tokens")
            self._check_room(len(self._sequence.tokens), len(ids))
            return self._submit(Forward(self._sequence, ids.tolist(), rows, self._observe))
        except BaseException:
            self._turn.release()
            raise

    def truncate(self, length: int) -> None:
        """Forget all tokens from `length` on."""
        with self._turn:
            held = self.length
            if not 0 <= length <= held:
                raise AbiError(ErrorCode.invalid_argument, f"cannot truncate {held} tokens to {length}")
            with self._loop.scheduling() as scheduler:
                self._sequence.truncate(scheduler.pool, length)

    def fork(self) -> Session:
        """An independent session with the same tokens."""
        with self._turn:
            self._check_open()
            with self._loop.scheduling() as scheduler:
                twin = scheduler.fork(self._sequence)
        return Session(self._loop, self._runner, twin, self._observe)
