"""A small, honest tokenizer: every text survives `decode(encode(text))`, and every awkward token is in it.

Guests go wrong where tokens and characters do not meet: half a character in a token, a token that ends one
character and starts the next, a token of spaces, a control byte. A real vocabulary has such tokens but they
are hard to provoke; this one has a few of each kind at known ids, and all 256 single bytes, so that any
bytes at all can be scripted. Replace it by anything with the methods of `Tokenizer`, a real model's
tokenizer for one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol


class Tokenizer(Protocol):
    """What MockHost asks of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids; ids run from 0."""

    @property
    def bos_id(self) -> int | None:
        """The token that opens a prompt, or None."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The tokens that end a text; the first is the one that scripts use."""

    def encode(self, text: str, *, add_bos: bool = False, parse_special: bool = True) -> list[int]:
        """Token ids of `text`."""

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> bytes:
        """The tokens' bytes; may end inside a character. `IndexError` for an id outside the vocabulary."""

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token."""


@dataclass(frozen=True)
class Vocabulary:
    """Greedy longest-match tokenizer over byte pieces.

    `pieces[id]` are a token's bytes; all 256 single bytes have to be among them. `special` names the tokens
    that text does not produce by itself (only with `parse_special`).
    """

    pieces: tuple[bytes, ...]
    special: Mapping[int, str] = field(default_factory=dict)
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        missing = set(range(256)) - {piece[0] for piece in self._ids if len(piece) == 1}
        if missing:
            raise ValueError(f"a vocabulary needs every single byte as a piece; {len(missing)} are missing")

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return len(self.pieces)

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        return {piece: id_ for id_, piece in enumerate(self.pieces) if id_ not in self.special}

    @cached_property
    def _longest_piece(self) -> re.Pattern[bytes]:
        longest_first = sorted(self._ids, key=len, reverse=True)
        return re.compile(b"|".join(map(re.escape, longest_first)), re.DOTALL)

    @cached_property
    def _special_ids(self) -> dict[str, int]:
        return {name: id_ for id_, name in self.special.items()}

    @cached_property
    def _special_pattern(self) -> re.Pattern[str] | None:
        return re.compile("(" + "|".join(map(re.escape, self._special_ids)) + ")") if self.special else None

    def encode(self, text: str, *, add_bos: bool = False, parse_special: bool = True) -> list[int]:
        """Token ids of `text`, the BOS first where asked."""
        ids = [self.bos_id] if add_bos and self.bos_id is not None else []
        pattern = self._special_pattern if parse_special else None
        for part in pattern.split(text) if pattern else [text]:
            if pattern and part in self._special_ids:
                ids.append(self._special_ids[part])
            else:
                ids.extend(self._encode_bytes(part.encode()))
        return ids

    def _encode_bytes(self, data: bytes) -> list[int]:
        return [self._ids[piece] for piece in self._longest_piece.findall(data)]

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> bytes:
        """The tokens' bytes, those of special tokens only with `skip_special=False`."""
        return b"".join(
            self.token_bytes(token) for token in ids if not (skip_special and token in self.special)
        )

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token, a special token's name for those; `IndexError` outside the vocabulary."""
        if not 0 <= token < len(self.pieces):
            raise IndexError(f"token {token} is not in a vocabulary of {len(self.pieces)}")
        return self.pieces[token]

    def token(self, piece: bytes | str) -> int:
        """The id of exactly this piece or special name; `KeyError` when there is none."""
        if isinstance(piece, str) and piece in self._special_ids:
            return self._special_ids[piece]
        return self._ids[piece.encode() if isinstance(piece, str) else piece]


WORDS = (
    " ", "  ", "    ", "\n", "\r\n", "\t", "the", " the", " a", "and", " and", "ing", "hello", " hello",
    " world", "stop", "st", "op", "STOP", "###", "\n\n", "User:", "é", "ß", "日本", "語", "🦀", "👍🏽",
    "e\u0301", "\u200d", "\ufeff", "\ufffd",
)  # fmt: skip
"""Whole pieces of text: words, whitespace runs, parts of stop strings, characters of 2 to 4 bytes."""

SPLITS = (
    b"\xf0\x9f", b"\xa6\x80", b"\xf0", b"\x9f\xa6\x80", b"\xf0\x9f\xa6",
    b"\xe6\x97", b"\xa5\xe6", b"\x9c\xac", b"x\xc3", b"\xa9y", b"\xa5",
)  # fmt: skip
"""Pieces that begin or end inside a character: of 🦀, of 日本 (also across both), of é with a neighbour."""

SPECIAL = ("<|bos|>", "<|eos|>", "<|end|>")
"""Tokens outside text: the start, and two that end it."""


def default_vocabulary() -> Vocabulary:
    """256 bytes, then `WORDS`, `SPLITS` and `SPECIAL`; a single byte's id is its value."""
    pieces = [bytes([value]) for value in range(256)]
    pieces += [piece for piece in [word.encode() for word in WORDS] + list(SPLITS) if piece not in pieces]
    first = len(pieces)
    pieces += [name.encode() for name in SPECIAL]
    return Vocabulary(
        pieces=tuple(pieces),
        special={first + n: name for n, name in enumerate(SPECIAL)},
        bos_id=first,
        eos_ids=(first + 1, first + 2),
    )
