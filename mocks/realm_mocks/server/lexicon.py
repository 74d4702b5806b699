"""The ids of the scripted model's tokens.

The model cuts words into pieces of bytes, so it has no fixed list of them: the first 256 ids are the single
bytes, and every other piece gets the next id when it is first seen.
"""

from __future__ import annotations

VOCAB_SIZE = 50_000
"""Ids from here on are no tokens."""

_PIECES: list[bytes] = [bytes([byte]) for byte in range(256)]
_IDS: dict[bytes, int] = {piece: number for number, piece in enumerate(_PIECES)}


def id_of(piece: bytes) -> int:
    """The id of a token."""
    if piece not in _IDS:
        if len(_PIECES) == VOCAB_SIZE:
            raise OverflowError("the mock has seen more kinds of tokens than it has ids for")
        _IDS[piece] = len(_PIECES)
        _PIECES.append(piece)
    return _IDS[piece]


def piece_of(number: int) -> bytes | None:
    """The token of that id; None when nobody has seen it."""
    return _PIECES[number] if 0 <= number < len(_PIECES) else None
