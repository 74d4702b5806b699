from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_mocks.host import Vocabulary, default_vocabulary

VOCABULARY = default_vocabulary()


@given(st.text())
def test_text_survives_encoding(text: str) -> None:
    ids = VOCABULARY.encode(text, parse_special=False)
    assert VOCABULARY.decode(ids) == text.encode()


@given(st.lists(st.integers(0, VOCABULARY.vocab_size - 1)))
def test_decoding_is_the_pieces_joined(ids: list[int]) -> None:
    whole = VOCABULARY.decode(ids, skip_special=False)
    assert whole == b"".join(map(VOCABULARY.token_bytes, ids))


def test_every_single_byte_is_a_token_of_the_same_id() -> None:
    assert all(VOCABULARY.token_bytes(value) == bytes([value]) for value in range(256))


def test_the_longest_piece_wins() -> None:
    assert VOCABULARY.encode(" the") == [VOCABULARY.token(" the")]
    assert VOCABULARY.encode("🦀") == [VOCABULARY.token("🦀")]


def test_special_tokens_come_from_text_only_when_asked() -> None:
    bos, eos = VOCABULARY.bos_id, VOCABULARY.eos_ids[0]
    assert VOCABULARY.encode("a<|eos|>", add_bos=True) == [bos, ord("a"), eos]
    plain = VOCABULARY.encode("<|eos|>", parse_special=False)
    assert eos not in plain
    assert VOCABULARY.decode(plain) == b"<|eos|>"


def test_special_tokens_have_no_text_unless_asked() -> None:
    ids = [ord("a"), *VOCABULARY.eos_ids]
    assert VOCABULARY.decode(ids) == b"a"
    assert VOCABULARY.decode(ids, skip_special=False) == b"a<|eos|><|end|>"


def test_characters_can_be_scripted_in_parts() -> None:
    parts = [VOCABULARY.token(part) for part in (b"\xe6\x97", b"\xa5\xe6", b"\x9c\xac")]
    assert VOCABULARY.decode(parts).decode() == "日本"


def test_an_id_outside_the_vocabulary_is_an_error() -> None:
    for token in (-1, VOCABULARY.vocab_size):
        with pytest.raises(IndexError):
            VOCABULARY.token_bytes(token)


def test_a_vocabulary_without_all_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="1 are missing"):
        Vocabulary(tuple(bytes([value]) for value in range(255)))
