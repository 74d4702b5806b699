"""A session of ABI v1: a guest that runs the layers itself, with hidden states in its own memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray
from realm_abi.errors import AbiError, ErrorCode

from realm_reference.engine.adapters import LoadedAdapter
from realm_reference.engine.caller import Caller
from realm_reference.engine.loop import StepLoop
from realm_reference.engine.sequence import Sequence
from realm_reference.engine.work import Call, Floats, Observe
from realm_reference.model.runner import BASE, Runner


class LayerSession(Caller):
    """Each method waits for its turn in the engine's loop; `start_` and its name does not.

    The keys and values are made of the guest's hidden states, so they are neither shared nor computed again:
    its pages stay until it is freed. AbiErrors are those of `Session`, and `out_of_memory` when there are no
    pages.
    """

    def __init__(self, loop: StepLoop, runner: Runner, sequence: Sequence, observe: Observe | None) -> None:
        super().__init__(loop, runner, sequence, observe)
        sequence.pinned = True
        self._filled = [0] * runner.config.n_layers  # positions that each layer holds

    @property
    def length(self) -> int:
        """Positions that every layer holds."""
        self._check_open()
        return min(self._filled)

    def use_adapter(self, adapter: LoadedAdapter | None) -> None:
        """What is computed from now on is computed with `adapter`, which the caller holds until the session
        is freed; None is the model itself. What the layers hold stays as it was computed.
        """
        with self._turn:
            self._check_open()
            self._sequence.adapter = adapter.slot if adapter else BASE

    def embed(self, ids: NDArray[np.uint32]) -> Floats:
        """The embeddings of `ids`, [T] -> [T, D]."""
        return self.start_embed(ids).result()

    def layer(self, index: int, hidden: Floats, position: int) -> Floats:
        """One layer on positions `position`... of this sequence, [T, D] -> [T, D].

        The layer drops what it held from `position` on; a gap before it is `invalid_argument`.
        """
        return self.start_layer(index, hidden, position).result()

    def logits(self, hidden: Floats) -> Floats:
        """The logits of final hidden states, [T, D] -> [T, V]."""
        return self.start_logits(hidden).result()

    def start_embed(self, ids: NDArray[np.uint32]) -> Future[Floats]:
        """`embed` without waiting."""
        self._check_ids(ids)
        tokens = ids.astype(np.int32)
        return self._start(len(ids), lambda _: self._runner.embed(tokens))

    def start_layer(self, index: int, hidden: Floats, position: int) -> Future[Floats]:
        """`layer` without waiting."""
        if not 0 <= index < len(self._filled):
            raise AbiError(
                ErrorCode.invalid_argument, f"layer {index} of a model of {len(self._filled)} layers"
            )
        if position < 0:
            raise AbiError(ErrorCode.invalid_argument, f"position is {position}")
        self._check_room(position, len(hidden))
        own = hidden.copy()

        def run(pages: NDArray[np.int32]) -> Floats:
            held = self._filled[index]
            if position > held:
                raise ValueError(f"position {position} leaves a gap: layer {index} holds {held} positions")
            self._filled[index] = position
            result = self._runner.layer(index, own, position, pages, self._sequence.adapter)
            self._filled[index] = position + len(own)
            self._sequence.computed = min(self._filled)
            return result

        return self._start(len(hidden), run, position + len(hidden))

    def start_logits(self, hidden: Floats) -> Future[Floats]:
        """`logits` without waiting."""
        own = hidden.copy()
        return self._start(len(hidden), lambda _: self._runner.logits(own))

    def _start(
        self, rows: int, call: Callable[[NDArray[np.int32]], Floats], positions: int = 0
    ) -> Future[Floats]:
        self._turn.acquire()
        try:
            self._check_open()
            return self._submit(Call(self._sequence, call, rows, positions, self._observe))
        except BaseException:
            self._turn.release()
            raise
