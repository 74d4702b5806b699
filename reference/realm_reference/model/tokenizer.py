"""Text to token ids and back, as the model was trained to see it.

The splitting and merging is done by the `tokenizers` library, set up from the GGUF file's metadata.
Decoding is done here, in bytes: a token may end inside a character, and only bytes can be concatenated
without loss.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

from realm_reference.model.gguf import GGUFFile
from realm_reference.model.vocabulary import TokenKind, Vocabulary

# The splits before byte-level BPE, by `tokenizer.ggml.pre`. The regular expressions are those that the
# models were trained with; llama.cpp's llama-vocab.cpp lists which name goes with which.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS: dict[str, tuple[str, ...]] = {
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
    **dict.fromkeys(("gpt-2", "mpt", "olmo", "jais"), (_GPT2,)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"), (r"\p{N}", _GPT2)),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), (_LLAMA3,)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2"), (_LLAMA3.replace("{1,3}", ""),)),
    "tekken": (_TEKKEN,),
}
# Tokens that are no part of the text.
_SPECIAL_KINDS = (TokenKind.CONTROL, TokenKind.UNKNOWN)
_UNMERGED_KINDS = (*_SPECIAL_KINDS, TokenKind.BYTE)
# These vocabularies hold whole words that their merges cannot build.
_WHOLE_WORDS_FIRST = frozenset(("llama-bpe", "llama3", "llama-v3", "tekken"))


class Tokenizer:
    """The tokenizer of one model; safe to share between threads."""

    def __init__(self, file: GGUFFile) -> None:
        self.vocabulary = Vocabulary.from_gguf(file)
        self._bytes = self.vocabulary.bytes_by_id
        self._hidden = frozenset(i for i, kind in enumerate(self.vocabulary.kinds) if kind in _SPECIAL_KINDS)
        build = _byte_level if self.vocabulary.byte_level else _sentencepiece
        # Whether special tokens in the text are parsed is a state of the library's object, so there are two
        # of them.
        self._parsing, self._plain = build(file, self.vocabulary)
        self.adds_bos = _flag(file, "add_bos_token", default=not self.vocabulary.byte_level)

    @property
    def vocab_size(self) -> int:
        """The number of token ids."""
        return len(self._bytes)

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text, if the model has one."""
        return self.vocabulary.bos_id

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token that ends a text or a turn; the one that the file names as its EOS comes first."""
        return self.vocabulary.eos_ids

    def encode(self, text: str, *, add_bos: bool = False, parse_special: bool = True) -> list[int]:
        """The token ids of `text`.

        `add_bos` puts the BOS token first, if the model has one; whether the model was trained to see one
        before plain text is `adds_bos`. `parse_special` reads names of control tokens in the text, such as
        <|im_end|>, as those tokens; text from strangers should be encoded without it. A byte that the
        vocabulary cannot spell is dropped, as by Hugging Face's tokenizers (SmolLM2 lacks six control
        characters). Raises ValueError for lone surrogates, which no UTF-8 text has.
        """
        text.encode("utf-8")  # the library would answer a lone surrogate with a misleading TypeError
        ids: list[int] = (self._parsing if parse_special else self._plain).encode(text).ids
        return [self.bos_id, *ids] if add_bos and self.bos_id is not None else ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> bytes:
        """The bytes of the tokens, one after the other; they may begin or end inside a UTF-8 character.

        `skip_special` leaves the control tokens out. Nothing is trimmed, so that pieces concatenate to the
        whole; a SentencePiece model that puts a space before each text therefore gives that space back.
        Raises ValueError for an id outside the vocabulary.
        """
        return b"".join(self.token_bytes(i) for i in ids if not (skip_special and i in self._hidden))

    def token_bytes(self, token: int) -> bytes:
        """The raw bytes of one token; raises ValueError for an id outside the vocabulary."""
        if not 0 <= token < len(self._bytes):
            raise ValueError(f"token id {token} is not in 0 to {len(self._bytes) - 1}")
        return self._bytes[token]

    def is_special(self, token: int) -> bool:
        """Whether the id is a control token, which is no part of the text."""
        return token in self._hidden


def _byte_level(file: GGUFFile, vocabulary: Vocabulary) -> tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]:
    name = file.metadata.get("tokenizer.ggml.pre", "default")
    if name not in _SPLITS:
        raise file.error(
            f"its pre-tokenizer is {str(name)[:40]!r}", f"the reference knows {', '.join(sorted(_SPLITS))}"
        )
    merges = _merges(file)
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in _SPLITS[name]]
    before = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    model = _bpe(file, vocabulary, merges, ignore_merges=name in _WHOLE_WORDS_FIRST)
    return _pair(model, vocabulary, before, None)


def _sentencepiece(
    file: GGUFFile, vocabulary: Vocabulary
) -> tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]:
    """SentencePiece BPE: the pair whose joined piece has the best score is merged first; unknown characters
    become bytes.
    """
    scores = file.metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(vocabulary.texts):
        raise file.error("tokenizer.ggml.scores does not give one score for each token")
    merges = _merges_from_scores(vocabulary, scores)
    unknown = None if vocabulary.unknown_id is None else vocabulary.texts[vocabulary.unknown_id]
    model = _bpe(file, vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    space = normalizers.Replace(" ", "\u2581")
    prepend = _flag(file, "add_space_prefix", default=True)
    return _pair(
        model,
        vocabulary,
        None,
        normalizers.Sequence([normalizers.Prepend("\u2581"), space]) if prepend else space,
    )


def _pair(
    model: models.BPE,
    vocabulary: Vocabulary,
    before: pre_tokenizers.PreTokenizer | None,
    normalizer: normalizers.Normalizer | None,
) -> tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]:
    """Two tokenizers over one model: the first parses special tokens in the text, the second takes them as
    plain text.
    """
    tokens = [
        AddedToken(text, special=kind in _SPECIAL_KINDS, normalized=False)
        for text, kind in zip(vocabulary.texts, vocabulary.kinds, strict=True)
        if (kind in _SPECIAL_KINDS or kind == TokenKind.USER_DEFINED) and text
    ]
    pair = tokenizers.Tokenizer(model), tokenizers.Tokenizer(model)
    for tokenizer in pair:
        if before is not None:
            tokenizer.pre_tokenizer = before
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        tokenizer.add_tokens(tokens)
    pair[1].encode_special_tokens = True
    return pair


def _bpe(file: GGUFFile, vocabulary: Vocabulary, merges: list[tuple[str, str]], **options: Any) -> models.BPE:
    ids = {text: i for i, text in enumerate(vocabulary.texts)}
    try:
        return models.BPE(vocab=ids, merges=merges, **options)
    except Exception as error:  # the library raises bare Exception for merges of tokens that do not exist
        raise file.error(f"its tokenizer is inconsistent: {error}") from None


def _merges(file: GGUFFile) -> list[tuple[str, str]]:
    merges = file.metadata.get("tokenizer.ggml.merges")
    if not isinstance(merges, list):
        raise file.error("tokenizer.ggml.merges is missing")
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else () for merge in merges]
    if any(len(pair) != 2 for pair in pairs):
        raise file.error("tokenizer.ggml.merges does not hold pairs of tokens")
    return [(left, right) for left, right in pairs]


def _merges_from_scores(vocabulary: Vocabulary, scores: list[float]) -> list[tuple[str, str]]:
    """Every way to put a token together from two others, best score of the result first.

    Control tokens have no part in it, nor bytes: text that spells their names is text.
    """
    texts, kinds = vocabulary.texts, vocabulary.kinds
    ids = {text: i for i, text in enumerate(texts) if kinds[i] not in _UNMERGED_KINDS}
    merges: list[tuple[str, str]] = []
    for i in sorted(ids.values(), key=lambda i: -scores[i]):
        text = texts[i]
        cuts = ((text[:n], text[n:]) for n in range(1, len(text)))
        pairs = [(left, right) for left, right in cuts if left in ids and right in ids]
        merges += sorted(pairs, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    return merges


def _flag(file: GGUFFile, name: str, *, default: bool) -> bool:
    value = file.metadata.get(f"tokenizer.ggml.{name}", default)
    if not isinstance(value, bool):
        raise file.error(f"tokenizer.ggml.{name} is not a truth value")
    return value
