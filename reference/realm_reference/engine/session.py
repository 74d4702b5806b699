"""A session: one sequence with its own KV cache, used by one guest, never shared."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from realm_abi.errors import AbiError, ErrorCode

from realm_reference.engine.census import Census
from realm_reference.engine.loop import StepLoop
from realm_reference.engine.work import CallWork, Floats, ForwardWork, Observe, Work, to_float32
from realm_reference.model.transformer import KVCache, Transformer


class Session:
    """Blocking calls for a guest's thread; each waits for its turn in the engine's loop.

    Every method raises AbiError: `context_full` past the model's context, `invalid_argument` for what the
    model cannot take, `invalid_handle` once freed, `cancelled` after `cancel`. An error leaves the sequence
    as it was before the call.
    """

    def __init__(
        self,
        loop: StepLoop,
        transformer: Transformer,
        cache: KVCache,
        chunk: int,
        census: Census,
        owner: str,
        observe: Observe | None,
    ) -> None:
        self._loop = loop
        self._transformer = transformer
        self._cache: KVCache | None = cache
        self._chunk = chunk
        self._census = census
        self._owner = owner
        self._observe = observe
        self._turn = threading.Lock()  # held during a call: a session does one thing at a time
        self._state = threading.Lock()  # guards the two below, never held while waiting
        self._cancelled = False
        self._work: Work | None = None
        census.enter(cache)

    @property
    def length(self) -> int:
        """Tokens in the sequence."""
        return self._open_cache().length

    def forward(self, ids: NDArray[np.uint32], rows: int = 1) -> Floats:
        """Append `ids` ([T], T >= 1) and return the logits of the last `rows` of them, [rows, V]."""
        with self._turn:
            cache = self._open_cache()
            self._check_ids(ids)
            if not 0 <= rows <= len(ids):
                raise AbiError(ErrorCode.invalid_argument, f"rows is {rows}, with {len(ids)} tokens")
            self._check_room(cache.length, len(ids))
            return self._run(ForwardWork(self._transformer, cache, np.array(ids), rows, self._chunk))

    def truncate(self, length: int) -> None:
        """Forget all tokens from `length` on."""
        with self._turn:
            cache = self._open_cache()
            if not 0 <= length <= cache.length:
                raise AbiError(
                    ErrorCode.invalid_argument, f"cannot truncate {cache.length} tokens to {length}"
                )
            cache.truncate(length)

    def fork(self) -> Session:
        """An independent session with the same tokens."""
        with self._turn:
            cache = self._open_cache().copy()
            return Session(
                self._loop,
                self._transformer,
                cache,
                self._chunk,
                self._census,
                self._owner,
                self._observe,
            )

    def free(self) -> None:
        """Give the cache back; the session is unusable from now on."""
        with self._turn:
            cache = self._open_cache()
            self._cache = None
        self._census.leave(cache)

    def cancel(self) -> None:
        """Thread-safe: a waiting call ends with `cancelled` (after the step that it may be in), and so do
        later ones.
        """
        with self._state:
            self._cancelled = True
            work = self._work
        if work is not None:
            self._loop.abandon(work)

    def embed(self, ids: NDArray[np.uint32]) -> Floats:
        """ABI v1: the embeddings of `ids`, [T] -> [T, D]."""
        with self._turn:
            self._check_ids(ids)
            tokens = np.array(ids)
            return self._call(len(ids), lambda: self._transformer.embed(tokens))

    def layer(self, index: int, hidden: Floats, position: int) -> Floats:
        """ABI v1: one layer on positions `position`... of this sequence, [T, D] -> [T, D].

        The cache drops what this layer held from `position` on; a gap before it is `invalid_argument`.
        """
        with self._turn:
            cache = self._open_cache()
            if position < 0:
                raise AbiError(ErrorCode.invalid_argument, f"position is {position}")
            self._check_room(position, len(hidden))
            x = self._transformer.arrays.from_numpy(hidden.copy())
            return self._call(len(hidden), lambda: self._transformer.layer(index, x, cache, position))

    def logits(self, hidden: Floats) -> Floats:
        """ABI v1: the logits of final hidden states, [T, D] -> [T, V]."""
        with self._turn:
            self._open_cache()
            x = self._transformer.arrays.from_numpy(hidden.copy())
            return self._call(len(hidden), lambda: self._transformer.logits(x))

    def _call(self, rows: int, call: Callable[[], object]) -> Floats:
        return self._run(CallWork(lambda: to_float32(self._transformer, call()), rows))

    def _run(self, work: Work) -> Floats:
        with self._state:
            if self._cancelled:
                raise AbiError(ErrorCode.cancelled, "the request was cancelled")
            self._loop.submit(work, self._owner, self._observe)
            self._work = work
        try:
            return work.future.result()
        finally:
            with self._state:
                self._work = None

    def _open_cache(self) -> KVCache:
        if self._cache is None:
            raise AbiError(ErrorCode.invalid_handle, "the session was freed")
        return self._cache

    def _check_ids(self, ids: NDArray[np.uint32]) -> None:
        if len(ids) == 0:
            raise AbiError(ErrorCode.invalid_argument, "no tokens")
        if int(ids.max()) >= self._transformer.vocab_size:
            raise AbiError(ErrorCode.invalid_argument, f"token {int(ids.max())} is outside the vocabulary")

    def _check_room(self, start: int, count: int) -> None:
        context = self._transformer.config.context_length
        if start + count > context:
            raise AbiError(ErrorCode.context_full, f"{start + count} tokens exceed the context of {context}")
