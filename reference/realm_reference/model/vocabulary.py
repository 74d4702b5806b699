"""The token table of a GGUF file: what each id is, and which bytes it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

from realm_reference.model.gguf import GGUFFile

_SPACE = "\u2581"  # how SentencePiece writes a space
_MAX_TOKENS = 1 << 22

# Names of tokens that end a turn or a text in the templates of common chat models. Files often state only
# one of them.
_END_NAMES = {"<end_of_turn>", "</s>"} | {
    f"<|{name}|>"
    for name in ("im_end", "endoftext", "end_of_text", "eot_id", "eom_id", "end", "end_of_turn", "return")
}


class TokenKind(IntEnum):
    """`tokenizer.ggml.token_type`, as the GGUF specification numbers it."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def _byte_alphabet() -> dict[str, int]:
    """The characters that byte-level BPE writes for the 256 bytes.

    Printable bytes stand for themselves and the others for code points from 256 on, in order (GPT-2's
    alphabet,
    https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf,
    section 2.2).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


@dataclass(frozen=True)
class Vocabulary:
    """Token texts and kinds by id, with the special ids; `byte_level` tells the two ways of writing bytes
    apart.
    """

    texts: tuple[str, ...]
    kinds: tuple[TokenKind, ...]
    byte_level: bool
    bos_id: int | None
    eos_ids: tuple[int, ...]
    unknown_id: int | None

    @classmethod
    def from_gguf(cls, file: GGUFFile) -> Vocabulary:
        """Read `tokenizer.ggml.*`; raises ModelFileError if the table is absent, inconsistent or of an
        unknown kind.
        """
        model = file.metadata.get("tokenizer.ggml.model")
        if model not in ("gpt2", "llama"):
            raise file.error(
                f"its tokenizer is {str(model)[:40]!r}",
                "the reference knows 'gpt2' (byte-level BPE) and 'llama'",
            )
        texts: Any = file.metadata.get("tokenizer.ggml.tokens")
        if not _is_list_of(texts, str) or not 0 < len(texts) <= _MAX_TOKENS:
            raise file.error("tokenizer.ggml.tokens is not a list of tokens")
        kinds: Any = file.metadata.get("tokenizer.ggml.token_type", [TokenKind.NORMAL] * len(texts))
        if not _is_list_of(kinds, int) or len(kinds) != len(texts) or not set(kinds) <= set(TokenKind):
            raise file.error("tokenizer.ggml.token_type does not give one known type for each token")
        special = _SpecialIds(file, len(texts))
        eos = [special.get(f"{name}_token_id") for name in ("eos", "eot", "eom")]
        named = [i for i, kind in enumerate(kinds) if kind == TokenKind.CONTROL and texts[i] in _END_NAMES]
        return cls(
            texts=tuple(texts),
            kinds=tuple(map(TokenKind, kinds)),
            byte_level=model == "gpt2",
            bos_id=special.get("bos_token_id"),
            eos_ids=tuple(dict.fromkeys(i for i in [*eos, *named] if i is not None)),
            unknown_id=special.get("unknown_token_id"),
        )

    @cached_property
    def bytes_by_id(self) -> tuple[bytes, ...]:
        """The raw bytes of each token; a control token's are its name."""
        alphabet = _byte_alphabet()
        return tuple(
            self._bytes(text, kind, alphabet) for text, kind in zip(self.texts, self.kinds, strict=True)
        )

    def _bytes(self, text: str, kind: TokenKind, alphabet: Mapping[str, int]) -> bytes:
        if kind in (TokenKind.CONTROL, TokenKind.USER_DEFINED, TokenKind.UNKNOWN):
            return text.encode("utf-8")
        if kind == TokenKind.BYTE and (value := _byte_value(text)) is not None:
            return bytes([value])
        if not self.byte_level:
            return text.replace(_SPACE, " ").encode("utf-8")
        return b"".join(bytes([alphabet[c]]) if c in alphabet else c.encode("utf-8") for c in text)


def _byte_value(text: str) -> int | None:
    """The byte that SentencePiece writes as `<0x0A>`; None for another text."""
    if len(text) != 6 or not text.startswith("<0x") or not text.endswith(">"):
        return None
    try:
        return int(text[3:5], 16)
    except ValueError:
        return None


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


class _SpecialIds:
    """Look-ups of `tokenizer.ggml.*_token_id` that check the range."""

    def __init__(self, file: GGUFFile, size: int) -> None:
        self._file = file
        self._size = size

    def get(self, name: str) -> int | None:
        value = self._file.metadata.get(f"tokenizer.ggml.{name}")
        if value is None:
            return None
        if type(value) is not int or not 0 <= value < self._size:
            raise self._file.error(
                f"tokenizer.ggml.{name} is {str(value)[:40]}, not an id below {self._size}"
            )
        return value
