"""Ids and bytes are those of Hugging Face's tokenizer (and SentencePiece's), and no byte is ever lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realm_reference.model.errors import ModelFileError
from realm_reference.model.gguf import open_gguf
from realm_reference.model.tokenizer import Tokenizer

_DATA = Path(__file__).parent / "data"
_GOLDENS = json.loads((_DATA / "tokens.json").read_text(encoding="ascii"))
_PIECES = json.loads((_DATA / "sentencepiece.json").read_text(encoding="ascii"))

_TEXTS = st.one_of(
    st.text(),
    st.text(alphabet=st.sampled_from(" \n\t0123a'<|>👩\u200dé\u0301汉\x00")),
    st.binary().map(lambda raw: raw.decode("utf-8", errors="replace")),
    st.sampled_from([case["text"] for case in _GOLDENS["cases"]]),
)


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Tokenizer:
    return Tokenizer(open_gguf(smollm2_path))


@pytest.fixture(scope="module")
def pieces(make_gguf: Callable[..., Path]) -> Tokenizer:
    """The small SentencePiece vocabulary of the goldens."""
    return Tokenizer(open_gguf(make_gguf(_sentencepiece_metadata())))


def _sentencepiece_metadata() -> dict[str, Any]:
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": None,
        "tokenizer.ggml.merges": None,
        "tokenizer.ggml.tokens": _PIECES["tokens"],
        "tokenizer.ggml.scores": _PIECES["scores"],
        "tokenizer.ggml.token_type": _PIECES["kinds"],
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def test_the_corpus_is_large_and_odd() -> None:
    texts = [case["text"] for case in _GOLDENS["cases"]]
    assert len(texts) >= 200
    for odd in ("\u200d", "\x00", "\ufffd", "<|im_end|>", "\u202e", "\u0301", "汉字"[0], "  ", "\r\n"):
        assert any(odd in text for text in [*texts, "汉字"]), repr(odd)


def test_encodes_like_hugging_face(tokenizer: Tokenizer) -> None:
    for case in _GOLDENS["cases"]:
        assert tokenizer.encode(case["text"]) == case["ids"], repr(case["text"])
        plain = case.get("plain", case["ids"])
        assert tokenizer.encode(case["text"], parse_special=False) == plain, repr(case["text"])


def test_where_transformers_gguf_support_differs_it_forgot_to_split_digits() -> None:
    """Its ids differ from the published tokenizer's only in texts where a number follows several spaces."""
    differing = [case for case in _GOLDENS["cases"] if "transformers_gguf_ids" in case]
    assert 0 < len(differing) < 30
    for case in differing:
        text = case["text"]
        numbers = [i for i, c in enumerate(text) if c.isnumeric()]
        assert any(text[i - 2 : i].isspace() for i in numbers if i >= 2), repr(text)


def test_decodes_like_hugging_face(tokenizer: Tokenizer) -> None:
    for case in _GOLDENS["cases"]:
        assert tokenizer.decode(case["ids"]).decode("utf-8", errors="replace") == case["decoded"]
        assert tokenizer.decode(case["ids"], skip_special=False) == case["text"].encode()


def test_encodes_like_sentencepiece(pieces: Tokenizer) -> None:
    for case in _PIECES["cases"]:
        assert pieces.encode(case["text"], parse_special=False) == case["ids"], repr(case["text"])


@pytest.fixture(scope="module")
def spelled(tokenizer: Tokenizer) -> frozenset[int]:
    """The bytes that the vocabulary has a token for."""
    return frozenset(
        raw[0] for raw in map(tokenizer.token_bytes, range(tokenizer.vocab_size)) if len(raw) == 1
    )


@given(text=_TEXTS, parse_special=st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_byte_is_lost(
    tokenizer: Tokenizer, spelled: frozenset[int], text: str, parse_special: bool
) -> None:
    """Encoding keeps every byte that the model can spell at all; decoding keeps every byte of every token."""
    ids = tokenizer.encode(text, parse_special=parse_special)
    whole = tokenizer.decode(ids, skip_special=False)
    assert whole == bytes(byte for byte in text.encode() if byte in spelled)
    assert b"".join(tokenizer.token_bytes(i) for i in ids) == whole
    if not parse_special:
        assert not any(tokenizer.is_special(i) for i in ids)


def test_the_model_can_spell_all_but_rare_bytes(spelled: frozenset[int]) -> None:
    """SmolLM2 has no token for six control characters, nor for two lead bytes that no assigned character
    has.
    """
    never_in_utf8 = {0xC0, 0xC1, *range(0xF5, 0x100)}
    assert set(range(256)) - spelled == {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2} | never_in_utf8


def test_sentencepiece_text_is_never_merged_into_control_tokens(make_gguf: Callable[..., Path]) -> None:
    metadata = _sentencepiece_metadata()
    tokens, scores, kinds = (
        metadata[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores", "token_type")
    )
    added = ["</", "s>", "<0x", "0A>", "/"]  # halves of </s>, which has the best score, and of a byte's name
    changed = {
        **metadata,
        "tokenizer.ggml.tokens": [*tokens, *added],
        "tokenizer.ggml.scores": [*scores, *[-1.0] * len(added)],
        "tokenizer.ggml.token_type": [*kinds, *[1] * len(added)],
    }
    tokenizer = Tokenizer(open_gguf(make_gguf(changed)))
    assert 2 not in tokenizer.encode("</s>", parse_special=False)
    assert 2 in tokenizer.encode("</s>")
    for text in ("</s>", "<0x0A>"):
        ids = tokenizer.encode(text, parse_special=False)
        assert tokenizer.decode(ids, skip_special=False) == b" " + text.encode()


def test_gemma3_encodes_like_sentencepiece(gemma3_path: Path) -> None:
    """`gemma3-tokens.json` is what SentencePiece itself makes of the file's vocabulary."""
    tokenizer = Tokenizer(open_gguf(gemma3_path))
    goldens = json.loads((_DATA / "gemma3-tokens.json").read_text(encoding="ascii"))
    for case, ids in zip(_GOLDENS["cases"], goldens["ids of the texts of tokens.json"], strict=True):
        assert tokenizer.encode(case["text"], parse_special=False) == ids, repr(case["text"])
        assert tokenizer.decode(ids, skip_special=False) == case["text"].encode()
    turn = tokenizer.encode("<start_of_turn>user\nHi<end_of_turn>\n", add_bos=tokenizer.adds_bos)
    assert turn[:3] == [2, 105, 2364]
    assert turn[-2:] == [106, 107]
    assert [tokenizer.token_bytes(i) for i in tokenizer.eos_ids] == [b"<eos>", b"<end_of_turn>"]


@given(text=st.text(min_size=1))
@settings(max_examples=200, deadline=None)
def test_sentencepiece_loses_no_byte_and_shows_its_leading_space(pieces: Tokenizer, text: str) -> None:
    if "\u2581" not in text:  # SentencePiece writes spaces so, and cannot tell the two apart
        ids = pieces.encode(text, parse_special=False)
        assert pieces.decode(ids, skip_special=False) == b" " + text.encode()


@given(ids=st.lists(st.integers(0, 49151), max_size=20), cut=st.integers(0, 20))
@settings(max_examples=200, deadline=None)
def test_any_tokens_decode_in_pieces(tokenizer: Tokenizer, ids: list[int], cut: int) -> None:
    for skip in (True, False):
        parts = tokenizer.decode(ids[:cut], skip_special=skip) + tokenizer.decode(
            ids[cut:], skip_special=skip
        )
        assert parts == tokenizer.decode(ids, skip_special=skip)


def test_special_ids(tokenizer: Tokenizer) -> None:
    names = [tokenizer.token_bytes(i) for i in tokenizer.eos_ids]
    assert names == [b"<|im_end|>", b"<|endoftext|>"]
    assert tokenizer.bos_id is not None
    assert tokenizer.token_bytes(tokenizer.bos_id) == b"<|im_start|>"
    assert tokenizer.vocab_size == 49152
    assert not tokenizer.adds_bos
    assert tokenizer.encode("Hi", add_bos=True) == [tokenizer.bos_id, *tokenizer.encode("Hi")]
    assert tokenizer.decode([2, 28120, 2]) == tokenizer.token_bytes(28120)


@pytest.mark.parametrize("token", [-1, 49152, 2**40])
def test_an_unknown_id_is_refused(tokenizer: Tokenizer, token: int) -> None:
    with pytest.raises(ValueError, match="not in 0 to 49151"):
        tokenizer.decode([0, token])


def test_a_lone_surrogate_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        tokenizer.encode("a\ud800b")


@pytest.mark.parametrize(
    ("pre", "text", "splits"),
    [
        ("gpt-2", "a  12 b's", ["a", " ", " 12", " b", "'s"]),
        ("smollm", "a  12 b's", ["a", "  ", "1", "2", " b", "'s"]),
        ("llama-bpe", "a  1234 B'S\n", ["a", " ", " ", "123", "4", " B", "'S", "\n"]),
        ("qwen2", "a  12 b!\n", ["a", " ", " ", "1", "2", " b", "!\n"]),
        ("tekken", "aBc  12", ["a", "Bc", " ", " ", "1", "2"]),
        ("default", "a+1234", ["a", "+", "123", "4"]),
    ],
)
def test_each_pre_tokenizer_splits_its_way(
    make_gguf: Callable[..., Path], pre: str, text: str, splits: list[str]
) -> None:
    """With each split a token of its own, and all merges there, the tokens are the splits."""
    tokens, merges = _words_as_tokens(text)
    kinds = [3, 3, 3] + [1] * (len(tokens) - 3)
    metadata = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds}
    tokenizer = Tokenizer(
        open_gguf(make_gguf({**metadata, "tokenizer.ggml.merges": merges, "tokenizer.ggml.pre": pre}))
    )
    assert [tokenizer.token_bytes(i).decode() for i in tokenizer.encode(text)] == splits


def _words_as_tokens(text: str) -> tuple[list[str], list[str]]:
    """A vocabulary of every piece of the text, each mergeable from any two halves of it."""
    written = text.replace(" ", "Ġ").replace("\n", "Ċ")
    spans = {written[i:j] for i in range(len(written)) for j in range(i + 1, len(written) + 1)}
    ordered = sorted(spans, key=lambda span: (len(span), span))
    merges = [f"{span[:cut]} {span[cut:]}" for span in ordered for cut in range(1, len(span))]
    return ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *ordered], merges


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"tokenizer.ggml.pre": "invented"}, r"'invented'; the reference knows .*llama-bpe.*smollm"),
        ({"tokenizer.ggml.model": "bert"}, "'bert'"),
        ({"tokenizer.ggml.tokens": None}, "not a list of tokens"),
        ({"tokenizer.ggml.token_type": [1, 1]}, "one known type for each token"),
        ({"tokenizer.ggml.merges": None}, "merges is missing"),
        ({"tokenizer.ggml.merges": ["abc"]}, "pairs of tokens"),
        ({"tokenizer.ggml.merges": ["q zzz"]}, "inconsistent"),
        ({"tokenizer.ggml.eos_token_id": 10**6}, "not an id below"),
        ({"tokenizer.ggml.add_bos_token": 7}, "not a truth value"),
        ({**_sentencepiece_metadata(), "tokenizer.ggml.scores": [0.5]}, "one score for each token"),
    ],
)
def test_a_bad_tokenizer_is_refused_by_name(
    make_gguf: Callable[..., Path], metadata: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelFileError, match=message):
        Tokenizer(open_gguf(make_gguf(metadata)))
