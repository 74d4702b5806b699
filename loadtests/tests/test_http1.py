"""The response reader gives h11's answers, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_loadtests.wire.failures import ExchangeFailure
from realm_loadtests.wire.http1 import ResponseReader

bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=8)
extensions = st.sampled_from([b"", b";name=value", b" ", b"; a"])


@st.composite
def chunked_responses(draw: st.DrawFn) -> bytes:
    parts = draw(bodies)
    size = draw(st.sampled_from([b"%x", b"%X", b"00%x"]))
    extension = draw(extensions)
    chunks = b"".join(size % len(part) + extension + b"\r\n" + part + b"\r\n" for part in parts)
    trailers = draw(st.sampled_from([b"", b"X-Late: 1\r\n"]))
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"]))
    return (
        interim
        + b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunks
        + b"0\r\n"
        + trailers
        + b"\r\n"
    )


@st.composite
def plain_responses(draw: st.DrawFn) -> bytes:
    body = b"".join(draw(bodies))
    status = draw(st.sampled_from([b"200 OK", b"404 Not Found", b"503 "]))
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\nA: b\r\na: c\r\n\r\n%s" % (status, len(body), body)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Split at the given places, each modulo the length."""
    borders = sorted({place % (len(data) + 1) for place in at} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(borders)]


def h11_answer(data: bytes) -> tuple[int, bytes]:
    connection = h11.Connection(our_role=h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    status, body = 0, b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
    return status, body


@given(st.one_of(chunked_responses(), plain_responses()), st.lists(st.integers(0, 10_000), max_size=60))
def test_any_borders_give_what_h11_reads(data: bytes, borders: list[int]) -> None:
    reader = ResponseReader()
    body = b"".join(reader.feed(piece) for piece in cut(data, borders))
    assert reader.head is not None
    assert (reader.head.status, body, reader.complete) == (*h11_answer(data), True)
    assert reader.surplus == b""


@given(chunked_responses(), st.data())
def test_a_response_cut_short_is_never_complete(data: bytes, draws: st.DataObject) -> None:
    reader = ResponseReader()
    reader.feed(data[: draws.draw(st.integers(0, len(data) - 1))])
    assert not reader.complete
    with pytest.raises(ExchangeFailure) as failure:
        reader.end_of_input()
    assert failure.value.kind == "connection_closed"


def test_without_a_length_the_close_ends_the_body() -> None:
    reader = ResponseReader()
    assert reader.feed(b"HTTP/1.0 200 OK\r\n\r\nabc") + reader.feed(b"def") == b"abcdef"
    assert not reader.complete
    reader.end_of_input()
    assert reader.complete
    assert reader.head is not None
    assert not reader.head.keep_alive


def test_bytes_after_the_end_are_told() -> None:
    reader = ResponseReader()
    reader.feed(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nHTTP/1.1 408 Late\r\n\r\n"
    )
    assert reader.complete
    assert reader.surplus == b"HTTP/1.1 408 Late\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1_0\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000,
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000,
    ],
)
def test_what_is_not_http_is_named(data: bytes) -> None:
    with pytest.raises(ExchangeFailure) as failure:
        ResponseReader().feed(data)
    assert failure.value.kind == "malformed_http"
