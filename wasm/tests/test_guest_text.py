"""The guest's text: bytes become characters and stop strings end it, wherever the tokens' borders are."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Sequence
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st


def open_output(units: Any, stops: Sequence[str]) -> None:
    refs = b""
    for stop in stops:
        encoded = stop.encode()
        refs += struct.pack("<II", units.put(encoded), len(encoded))
    units.call("unit_output_open", units.put(refs), len(stops))


def take(units: Any) -> bytes:
    text: bytes = units.read(units.call("unit_output_text"), units.call("unit_output_ready"))
    units.call("unit_output_taken")
    return text


def run(units: Any, pieces: Sequence[bytes], stops: Sequence[str]) -> tuple[list[bytes], bool]:
    """What is handed on after each piece (and at the end), and whether a stop string ended it."""
    open_output(units, stops)
    handed = []
    for piece in pieces:
        found = units.call("unit_output_push", units.put(piece), len(piece))
        assert found in (0, 1)
        handed.append(take(units))
        if found:
            return handed, True
    assert units.call("unit_output_end") == 0
    handed.append(take(units))
    return handed, False


def cut(data: bytes, borders: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(border % (len(data) + 1) for border in borders)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def expected_end(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop string to be complete begins; the longest of those complete together."""
    for end in range(len(text) + 1):
        starts = [
            end - len(stop) for stop in stops if len(stop) <= end and text[end - len(stop) : end] == stop
        ]
        if starts:
            return min(starts)
    return None


broken = st.lists(
    st.one_of(
        st.binary(max_size=4),
        st.text(max_size=4).map(lambda text: text.encode()),
        st.sampled_from(
            [b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe0\x80", b"\xf0\x9f\x98", b"\xc0\xaf", b"\xff"]
        ),
    ),
    max_size=8,
).map(b"".join)


@given(data=broken, borders=st.lists(st.integers(0, 100), max_size=8))
@example(data=b"\xf0\x9f\x98\xf0\x9f\x98\x80\xe2\x82", borders=[1, 2, 3, 4, 5])
def test_text_is_that_of_the_whole(units: Any, data: bytes, borders: list[int]) -> None:
    handed, _ = run(units, cut(data, borders), [])
    assert b"".join(handed).decode() == data.decode("utf-8", "replace")
    for piece in handed:
        piece.decode()  # whole characters, each time


small = st.text("abé", max_size=12)
stop_strings = st.lists(st.text("abé", min_size=1, max_size=4), max_size=3)


@given(
    text=small,
    stops=st.lists(st.text("abé", min_size=1, max_size=4), max_size=3),
    borders=st.lists(st.integers(0, 30)),
)
@example(text="abab", stops=["abb", "ba"], borders=[1, 2, 3])
@example(text="aab", stops=["aab", "b"], borders=[1])
@example(text="aab", stops=["b", "aab"], borders=[1])
def test_stop_strings_end_it_wherever_the_borders_are(
    units: Any, text: str, stops: list[str], borders: list[int]
) -> None:
    handed, found = run(units, cut(text.encode(), borders), stops)
    end = expected_end(text, stops)
    assert found == (end is not None)
    assert b"".join(handed).decode() == text[:end]


@given(text=small, stops=stop_strings)
def test_holds_back_no_more_than_could_become_a_stop_string(units: Any, text: str, stops: list[str]) -> None:
    pieces = [character.encode() for character in text]
    handed, _ = run(units, pieces, stops)
    for index in range(len(handed) - 1):  # the last is either the end's flush or where a stop string ended it
        so_far = text[: index + 1]
        sent = b"".join(handed[: index + 1]).decode()
        begun = [stop[:size] for stop in stops for size in range(len(stop)) if so_far.endswith(stop[:size])]
        assert so_far.removeprefix(sent) == max(begun, key=len, default="")


keys = st.text(st.characters(codec="utf-8"), max_size=5)
values = st.recursive(
    st.one_of(st.integers(0, 2**32 - 1), st.text(max_size=8), st.booleans(), st.floats(allow_nan=False)),
    lambda inner: st.dictionaries(keys, inner, max_size=3),
)


@given(
    other=st.dictionaries(keys, values, max_size=4),
    value=st.integers(0, 2**34),
    indent=st.sampled_from([None, 2]),
)
@example(other={"a": 'vocab_size": 7'}, value=5, indent=None)
def test_json_numbers(units: Any, other: dict[str, Any], value: int, indent: int | None) -> None:
    text = json.dumps({"other": other, "config": {"vocab_size": value}}, indent=indent).encode()
    key = units.put(b"vocab_size\0")
    found = units.call("unit_json_u32", units.put(text), len(text), key)
    assert found == (value if value < 2**32 else -1)
    assert units.call("unit_json_u32", units.put(text), len(text), units.put(b"vocab\0")) == -1


def test_json_that_ends_early(units: Any) -> None:
    text = b'{"config": {"vocab_size": 12, "x": "\\'
    key = units.put(b"hidden_size\0")
    for size in range(len(text) + 1):
        assert units.call("unit_json_u32", units.put(text), size, key) == -1
