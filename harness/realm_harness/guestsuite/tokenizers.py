"""Tokenizers of awkward sizes, for cases that the mock's own vocabulary does not cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bytes:
    """Single bytes below 256, `piece` for every other token; the last two are BOS and EOS.

    `per_byte` tokens stand for each byte of a text: the byte's own and token 256 for the rest, which is
    empty if `piece` is. Of a text longer than `most` bytes only so many count, half of them its first and
    half its last, as if all between were one word.
    """

    vocab_size: int = 300
    piece: bytes = b"#"
    per_byte: int = 1
    most: int = 1 << 20

    @property
    def bos_id(self) -> int:
        """The last but one."""
        return self.vocab_size - 2

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The last."""
        return (self.vocab_size - 1,)

    def encode(self, text: str, *, add_bos: bool = False, parse_special: bool = True) -> list[int]:
        """The bytes of the text, each with what goes with it."""
        del parse_special
        ids = [self.bos_id] if add_bos else []
        data = text.encode()
        if len(data) > self.most:
            half = self.most // 2
            data = data[:half] + data[-half:]
        for byte in data:
            ids += [byte, *[256] * (self.per_byte - 1)]
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> bytes:
        """The bytes of all; BOS and EOS have none."""
        del skip_special
        return b"".join(map(self.token_bytes, ids))

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token; IndexError outside the vocabulary."""
        if not 0 <= token < self.vocab_size:
            raise IndexError(f"token {token} of {self.vocab_size}")
        if token >= self.vocab_size - 2:
            return b""
        return bytes([token]) if token < 256 else self.piece
