from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_mocks.host import Computed, Fixed, Hashed, Moment, Table, Vocabulary, default_vocabulary, winners

VOCABULARY = default_vocabulary()
EOS = VOCABULARY.eos_ids[0]


def moment(*generated: int, prompt: tuple[int, ...] = (1, 2)) -> Moment:
    return Moment((*prompt, *generated), len(prompt), VOCABULARY.vocab_size)


def test_each_step_wins_in_its_turn_and_then_the_eos() -> None:
    script = winners(["hello", 33], VOCABULARY)
    hello = VOCABULARY.token("hello")
    assert int(np.argmax(script.logits(moment()))) == hello
    assert int(np.argmax(script.logits(moment(hello)))) == 33
    assert int(np.argmax(script.logits(moment(hello, 33)))) == EOS
    assert int(np.argmax(script.logits(moment(hello, 33, EOS)))) == EOS


@given(st.floats(0.0, 100.0, width=32))
def test_the_margin_is_over_everything_else(margin: float) -> None:
    logits = winners([7], VOCABULARY, margin=margin).logits(moment())
    assert logits[7] == np.float32(margin)
    assert np.delete(logits, 7).max() < 0


def test_a_tie_is_exact() -> None:
    logits = winners([(3, 5, 8)], VOCABULARY).logits(moment())
    assert np.flatnonzero(logits == logits.max()).tolist() == [3, 5, 8]


def test_inside_the_prompt_something_else_wins() -> None:
    script = winners([7], VOCABULARY)
    inside = Moment((1,), 2, VOCABULARY.vocab_size)
    assert inside.index == -1
    assert int(np.argmax(script.logits(inside))) != 7


def test_text_is_written_with_as_many_tokens_as_it_takes() -> None:
    script = winners("the日本", VOCABULARY)
    assert VOCABULARY.decode([step[0] for step in script.steps]).decode() == "the日本"


def test_a_piece_that_is_no_token_is_refused() -> None:
    with pytest.raises(ValueError, match="no token"):
        winners([b"\xf0\x9f\xff"], VOCABULARY)


def test_without_an_eos_the_end_must_be_said() -> None:
    plain = Vocabulary(tuple(bytes([value]) for value in range(256)))
    with pytest.raises(ValueError, match="afterwards"):
        winners("a", plain)
    assert winners("a", plain, afterwards=0).afterwards == 0


def test_fixed_logits_are_the_same_everywhere() -> None:
    values = np.arange(4, dtype=np.float32)
    assert np.array_equal(Fixed(values).logits(moment(1, 2, 3)), values)


def test_a_table_has_a_row_a_token_and_its_last_for_the_rest() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    script = Table(rows)
    assert [script.logits(moment(*[0] * n))[0] for n in range(5)] == [0, 2, 4, 4, 4]


@given(st.lists(st.integers(0, 300), min_size=1), st.lists(st.integers(0, 300), min_size=1))
def test_hashed_logits_depend_on_all_of_the_history(one: list[int], other: list[int]) -> None:
    script = Hashed(seed=5)
    same = np.array_equal(script.logits(moment(*one)), script.logits(moment(*other)))
    assert same == (one == other)


def test_hashed_logits_depend_on_the_seed() -> None:
    assert not np.array_equal(Hashed(1).logits(moment()), Hashed(2).logits(moment()))


def test_a_function_decides_what_it_likes() -> None:
    script = Computed(lambda at: np.full(at.vocab_size, at.index, dtype=np.float32))
    assert script.logits(moment(9))[0] == 1
