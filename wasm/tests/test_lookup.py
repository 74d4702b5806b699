"""Guesses from a text, against the same in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

SHORTEST = 2
TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=40)


def guessed(units: Any, text: list[int], longest: int, room: int) -> list[int]:
    source = units.put(np.array(text, "<u4").tobytes())
    target = units.put(bytes(4 * room))
    count = units.call("unit_lookup", source, len(text), longest, target, room)
    return np.frombuffer(units.read(target, 4 * count), "<u4").tolist()


def due(text: list[int], longest: int, room: int) -> list[int]:
    """What follows the last of the places that the longest end of the text stands at before."""
    for size in range(min(longest, len(text) - 1), min(longest, SHORTEST) - 1, -1):
        end = text[len(text) - size :]
        places = [at for at in range(size, len(text)) if text[at - size : at] == end]
        if places and size:
            said = text[places[-1] :]
            while len(said) < room:
                said.append(said[len(said) - (len(text) - places[-1])])
            return said[:room]
    return []


@given(text=TOKENS, longest=st.integers(0, 5), room=st.integers(1, 8))
def test_it_is_what_followed_the_longest_match(units: Any, text: list[int], longest: int, room: int) -> None:
    assert guessed(units, text, longest, room) == due(text, longest, room)


@pytest.mark.parametrize(
    ("text", "longest", "room", "said"),
    [
        ([1, 2, 3, 9, 1, 2, 3], 3, 2, [9, 1]),
        ([1, 2, 7, 1, 2, 8, 1, 2], 3, 1, [8]),
        ([7, 7, 7], 3, 4, [7, 7, 7, 7]),
        ([5, 6, 5, 6, 5, 6], 2, 5, [5, 6, 5, 6, 5]),
        ([1, 2, 1], 3, 2, []),
        ([1, 2, 1], 1, 2, [2, 1]),
        ([1], 3, 2, []),
        ([1, 1, 1], 0, 2, []),
        ([1, 2, 3, 9, 1, 2, 3], 2**32 - 1, 1, [9]),
    ],
)
def test_by_hand(units: Any, text: list[int], longest: int, room: int, said: list[int]) -> None:
    assert guessed(units, text, longest, room) == said
