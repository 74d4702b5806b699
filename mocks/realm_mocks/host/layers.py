"""The state behind ABI v1: a layer-wise "model" whose hidden vectors say where they have been.

In v1 the guest carries the hidden states from layer to layer, so it can lose, swap, change or misplace them,
and a real model would only answer with worse text. Here every vector that the host hands out is a
fingerprint made from a serial number; when it comes back the host knows exactly which row it is, which token
it stands for and which layer it left last, or that the guest made it up. The layers keep a cache of tokens
by position, as a real model's keep keys and values: what a layer "sees" is what its cache holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

EMBEDDED = -1
"""The layer of a row that has only been embedded."""

UNKNOWN = -1
"""The token of a row that the host never handed out, and of a position that was never filled."""

SERIAL_BASE = 4096

SPREAD = (48271, 40503, 65521)
"""Two factors and a prime modulus: whole numbers that float32 holds exactly, different from row to row."""


@dataclass(frozen=True, slots=True)
class Row:
    """One position's hidden vector: its token, the layer it left last, the position it had there."""

    token: int
    layer: int = EMBEDDED
    position: int | None = None

    @property
    def past(self) -> str:
        """Where it has been, for a reader."""
        embedded = self.layer == EMBEDDED
        return "that has been through no layer yet" if embedded else f"that comes from layer {self.layer}"


class LayerwiseModel:
    """Embedding, layers and logits of a model that knows its own vectors.

    `report(rule, message)` is called for everything that a right guest does not do; the call itself goes on,
    with `UNKNOWN` where a token should be, so that the text goes wrong as a real model's would.
    """

    def __init__(self, layers: int, hidden_size: int, report: Callable[[str, str], None]) -> None:
        self.layers = layers
        self.hidden_size = hidden_size
        self.fed: list[int] = []
        self._report = report
        self._rows: dict[bytes, Row] = {}
        self._tail = np.arange(2, hidden_size) * SPREAD[1]
        self._caches: list[list[int]] = [[] for _ in range(layers)]

    def embed(self, tokens: Sequence[int], out: Floats) -> None:
        """Writes a vector for each token: `[n] -> [n * hidden_size]`."""
        self.fed.extend(tokens)
        self._hand_out([Row(token) for token in tokens], out)

    def held(self, layer: int) -> int:
        """Positions in a layer's cache."""
        return len(self._caches[layer])

    def layer(self, layer: int, hidden: Floats, position: int, out: Floats) -> None:
        """Takes rows through one layer, the first at `position`: `[n * hidden_size] -> [n * hidden_size]`."""
        cache = self._caches[layer]
        if position != len(cache):
            self._report(
                "position", f"layer {layer} holds {len(cache)} positions, and gets position {position}"
            )
        del cache[position:]
        cache.extend([UNKNOWN] * (position - len(cache)))
        rows: list[Row] = []
        for offset, row in enumerate(self._recognise(hidden)):
            self._check_layer(layer, position + offset, row)
            cache.append(row.token)
            rows.append(Row(row.token, layer, position + offset))
        self._hand_out(rows, out)

    def seen(self, hidden: Floats) -> tuple[int, ...]:
        """All tokens that the logits of this vector `[hidden_size]` depend on, the row's own last."""
        (row,) = self._recognise(hidden)
        if row.layer != self.layers - 1:
            self._report(
                "layer-order", f"logits were asked of a row {row.past}; layers are 0 to {self.layers - 1}"
            )
        if row.position is None or row.token == UNKNOWN:
            return (UNKNOWN,)
        past = self._caches[-1][: row.position]
        return (*past, row.token if row.layer == self.layers - 1 else UNKNOWN)

    def _check_layer(self, layer: int, position: int, row: Row) -> None:
        if row.token == UNKNOWN:
            return
        if row.layer != layer - 1:
            self._report("layer-order", f"layer {layer} was given a row {row.past}")
        elif row.position not in (None, position):
            self._report(
                "position", f"a row at {row.position} in layer {row.layer} is at {position} in {layer}"
            )

    def _hand_out(self, rows: Sequence[Row], out: Floats) -> None:
        vectors = self._vectors(np.arange(len(self._rows), len(self._rows) + len(rows)))
        for row, vector in zip(rows, vectors, strict=True):
            self._rows[vector.tobytes()] = row
        out[:] = vectors.ravel()

    def _vectors(self, serials: NDArray[np.int64]) -> Floats:
        """Vectors `[n, hidden_size]` of serial numbers `[n]`: two digits, then what follows from them."""
        vectors = np.empty((len(serials), self.hidden_size), np.float32)
        vectors[:, 0], vectors[:, 1] = serials // SERIAL_BASE, serials % SERIAL_BASE
        vectors[:, 2:] = (serials[:, None] * SPREAD[0] + self._tail) % SPREAD[2]
        return vectors

    def _recognise(self, hidden: Floats) -> list[Row]:
        """The rows that these vectors are; one that the guest changed or made up is reported and unknown."""
        data, width = hidden.tobytes(), hidden.itemsize * self.hidden_size
        rows = [self._rows.get(data[start : start + width]) for start in range(0, len(data), width)]
        for row in rows:
            if row is None:
                self._report("hidden-chain", "a hidden vector that the host never handed out")
        return [row or Row(UNKNOWN) for row in rows]
