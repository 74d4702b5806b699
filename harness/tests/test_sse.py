"""The event-stream parser against the standard: any line ends, any pieces, and what it complains about."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from realm_harness.sse import Event, Parser


def parse(*pieces: bytes) -> tuple[list[tuple[str, str]], Parser]:
    parser = Parser()
    events: list[Event] = []
    for number, piece in enumerate(pieces):
        events += parser.feed(piece, number)
    return [(event.name, event.data) for event in events], parser


def test_plain_events() -> None:
    events, parser = parse(b'data: {"a": 1}\n\ndata:[DONE]\n\n')
    assert events == [("", '{"a": 1}'), ("", "[DONE]")]
    assert (parser.faults, parser.rest) == ([], b"")


def test_comments_names_ids_and_several_data_lines() -> None:
    events, parser = parse(b": ping\n\nevent: x\nid: 7\nretry: 10\ndata: one\ndata: two\n\n")
    assert events == [("x", "one\ntwo")]
    assert parser.comments == 1
    assert parser.faults == []


def test_byte_order_mark_is_dropped() -> None:
    assert parse(b"\xef\xbb\xbfdata: x\n\n")[0] == [("", "x")]


def test_event_without_data_is_none() -> None:
    assert parse(b"event: x\n\ndata: y\n\n")[0] == [("", "y")]


def test_what_no_blank_line_ends_is_the_rest() -> None:
    events, parser = parse(b"data: x\n\ndata: [DONE]")
    assert events == [("", "x")]
    assert parser.rest == b"data: [DONE]"


def test_bad_bytes_and_unknown_lines_are_faults() -> None:
    events, parser = parse(b'data: \xff\n\n"object": 1\n\n')
    assert events == [("", "\ufffd")]
    assert len(parser.faults) == 2


def test_time_is_that_of_the_completing_read() -> None:
    parser = Parser()
    parser.feed(b"data: x\n", 1)
    assert parser.feed(b"\n", 2)[0].t_ns == 2


@given(
    texts=st.lists(
        st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1), min_size=1
    ),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
def test_pieces_and_line_ends_do_not_matter(texts: list[str], end: str, cuts: list[int]) -> None:
    raw = "".join(f"data: {text}{end}{end}" for text in texts).encode() + b": end\n"
    places = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    pieces = [raw[start:stop] for start, stop in pairwise(places)]
    events, parser = parse(*pieces)
    assert events == [("", text) for text in texts]
    assert parser.faults == []


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(
    raw=st.binary(max_size=120)
    | st.lists(
        st.sampled_from(
            [b"data:", b"data: x", b"\r", b"\n", b"\r\n", b":", b"\xff", b"\xef\xbb\xbf", b"id: 1"]
        ),
        max_size=40,
    ).map(b"".join),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_any_bytes_are_events_or_faults_however_they_are_cut(raw: bytes, cuts: list[int]) -> None:
    raw += b"\n:\n"  # a carriage return at the very end waits for what follows it
    places = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    whole, pieces = parse(raw), parse(*(raw[start:stop] for start, stop in pairwise(places)))
    assert whole[0] == pieces[0]
    assert whole[1].faults == pieces[1].faults
    assert whole[1].rest == pieces[1].rest
