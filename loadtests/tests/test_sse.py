"""Events are the same however the stream is cut, whatever its line ends."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_loadtests.wire.failures import ExchangeFailure
from realm_loadtests.wire.sse import MAX_EVENT, Event, EventReader

LINE_ENDS = (b"\n", b"\r\n", b"\r")
lines = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=12).map(str.encode)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """A stream with mixed line ends and noise, and the events in it."""
    end = st.sampled_from(LINE_ENDS)
    stream, events = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])), []
    for data in draw(st.lists(st.lists(lines, min_size=1, max_size=3), max_size=6)):
        name = draw(st.sampled_from([b"", b"error"]))
        noise = draw(st.sampled_from([b"", b": ping", b":", b"id: 7", b"retry: 10", b"unknown"]))
        fields = [b"event: " + name] if name else []
        fields += [b"data: " + line for line in data] + ([noise] if noise else [])
        # A CR that a LF follows is one line end: an empty line after a CR must begin with a CR as well.
        for field in fields:
            stream += field + draw(end)
        stream += b"\r\n" if not stream.endswith(b"\r") else b"\r"
        events.append(Event(name, b"\n".join(data)))
        if stream.endswith(b"\r"):
            stream += b": so that the next line's end is its own\n"
    return stream, events


@given(streams(), st.lists(st.integers(0, 10_000), max_size=60))
def test_any_borders_give_the_same_events(case: tuple[bytes, list[Event]], at: list[int]) -> None:
    stream, expected = case
    borders = sorted({place % (len(stream) + 1) for place in at} | {0, len(stream)})
    reader = EventReader()
    events: list[Event] = []
    for a, b in pairwise(borders):
        events += reader.feed(stream[a:b])
    assert events == expected


def test_an_event_comes_with_the_read_that_completes_it() -> None:
    reader = EventReader()
    assert reader.feed(b"data: a") == []
    assert reader.feed(b"\n") == []
    assert reader.feed(b"\ndata: b\n\ndata: c") == [Event(b"", b"a"), Event(b"", b"b")]


def test_events_that_come_one_a_read_are_the_same() -> None:
    """The reader's short cut for this case must not mix with what came before."""
    pieces = [b"data: 1\n\n", b"data: 2\n\n", b"event: error\n", b"data: 3\n\n", b"data: 4\r", b"data: 5\n\n"]
    pieces += [
        b"data: 6\n\n",
        b"dat",
        b"a: 7\n\n",
        b": ping\n\n",
        b"data: 8\n\n",
        b"data: 9\r\n\r\n",
        b"data: 10\n\n",
    ]
    apart, together = EventReader(), EventReader()
    one_a_read = [event for piece in pieces for event in apart.feed(piece)]
    assert one_a_read == together.feed(b"".join(pieces))
    assert [event.data for event in one_a_read] == [
        b"1",
        b"2",
        b"3",
        b"4\n5",
        *(b"%d" % n for n in range(6, 11)),
    ]


def test_an_event_without_end_is_refused() -> None:
    reader = EventReader()
    assert reader.feed(b"data: " + b"a" * (MAX_EVENT - 10)) == []
    with pytest.raises(ExchangeFailure, match="malformed_event"):
        reader.feed(b"a" * 10)
