"""What all kinds of sessions have in common: one call at a time, cancellation, an end."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray
from realm_abi.errors import AbiError, ErrorCode

from realm_reference.engine.loop import StepLoop
from realm_reference.engine.sequence import Sequence
from realm_reference.engine.work import Floats, Observe, Work
from realm_reference.model.runner import Runner


class Caller:
    """One guest's hold on a sequence. Its methods raise AbiError: `invalid_handle` once freed, `cancelled`
    after `cancel`.

    A method waits while a call that was started before is not over.
    """

    def __init__(self, loop: StepLoop, runner: Runner, sequence: Sequence, observe: Observe | None) -> None:
        self._loop = loop
        self._runner = runner
        self._sequence = sequence
        self._observe = observe
        self._turn = threading.Lock()  # held during a call, from its start to its result
        self._state = threading.Lock()  # guards the three below, never held while waiting
        self._freed = False
        self._cancelled = False
        self._work: Work | None = None

    def free(self) -> None:
        """Give the pages back; the session is unusable from now on."""
        with self._turn:
            self._check_open()
            self._freed = True
            self._loop.close_sequence(self._sequence)

    def cancel(self) -> None:
        """Thread-safe: a waiting call ends with `cancelled` (after the step that it may be in), and so do
        later ones.
        """
        with self._state:
            self._cancelled = True
            work = self._work
        if work is not None:
            self._loop.abandon(work)

    def _submit(self, work: Work) -> Future[Floats]:
        """Hand `work` to the loop; the turn, which is taken, ends with it."""
        with self._state:
            if self._cancelled:
                raise AbiError(ErrorCode.cancelled, "the request was cancelled")
            self._loop.submit(work)
            self._work = work
        work.future.add_done_callback(self._over)
        return work.future

    def _over(self, _: Future[Floats]) -> None:
        with self._state:
            self._work = None
        self._turn.release()

    def _check_open(self) -> None:
        if self._freed:
            raise AbiError(ErrorCode.invalid_handle, "the session was freed")

    def _check_ids(self, ids: NDArray[np.uint32]) -> None:
        if len(ids) == 0:
            raise AbiError(ErrorCode.invalid_argument, "no tokens")
        if int(ids.max()) >= self._runner.vocab_size:
            raise AbiError(ErrorCode.invalid_argument, f"token {int(ids.max())} is outside the vocabulary")

    def _check_room(self, start: int, count: int) -> None:
        context = self._runner.config.context_length
        if start + count > context:
            raise AbiError(ErrorCode.context_full, f"{start + count} tokens exceed the context of {context}")
