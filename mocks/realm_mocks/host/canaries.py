"""Canaries: bytes of guest memory that a host call must leave alone, checked after every call.

A host that writes past an output window corrupts a guest silently. So before a call the memory round each
window, or all of it, is remembered, and afterwards everything outside what the call was allowed to write
must be as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Mode = Literal["off", "edges", "memory"]

EDGE = 64
"""Bytes looked at on each side of a window in the mode `edges`."""


@dataclass(frozen=True)
class Extent:
    """Bytes `start` to `stop` of guest memory."""

    start: int
    stop: int


@dataclass(frozen=True)
class Stain:
    """`count` bytes that a host call changed though it must not, the first at `offset`."""

    function: str
    call: int
    offset: int
    count: int

    def __str__(self) -> str:
        where = f"outside its output from {self.offset:#x} on"
        return f"{self.function} (call #{self.call}) changed {self.count} bytes {where}"


@dataclass(frozen=True)
class Snapshot:
    """Pieces of memory as they were before a call, by where they start."""

    pieces: tuple[tuple[int, Bytes], ...]


def remember(mode: Mode, memory: Bytes, windows: Sequence[Extent]) -> Snapshot:
    """Copies what has to be compared later: nothing, the windows with `EDGE` bytes on each side, or all."""
    if mode == "off":
        return Snapshot(())
    if mode == "memory":
        return Snapshot(((0, memory.copy()),))
    spans = [(max(0, window.start - EDGE), min(len(memory), window.stop + EDGE)) for window in windows]
    return Snapshot(tuple((start, memory[start:stop].copy()) for start, stop in spans))


def changed(snapshot: Snapshot, memory: Bytes, allowed: Sequence[Extent]) -> list[int]:
    """Offsets of the remembered bytes that changed outside `allowed`, in order. The snapshot is used up."""
    found: set[int] = set()
    for start, before in snapshot.pieces:
        after = memory[start : start + len(before)]
        for extent in allowed:
            inside = slice(max(0, extent.start - start), max(0, extent.stop - start))
            before[inside] = after[inside]
        if not np.array_equal(before, after):
            found.update((start + np.flatnonzero(before != after)).tolist())
    return sorted(found)
