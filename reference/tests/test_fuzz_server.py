"""Random bytes against the server's readers: a value or a refusal comes out, and never anything else."""

from __future__ import annotations

import asyncio
import json
import random
import resource
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from realm_reference.server.access.auth import Authenticator
from realm_reference.server.errors import ApiError
from realm_reference.server.requests.chat_request import PARAMETERS, parse_chat_request
from realm_reference.server.wire import jsonbody
from realm_reference.server.wire.heads import Heads, Refused

StartServer = Callable[..., Awaitable[Any]]
BOUNDED = settings(max_examples=300, derandomize=True, deadline=None, database=None)


def outcome(read: Callable[[Any], Any], raw: Any) -> tuple[Any, ApiError | None]:
    """What a reader makes of something, or why it refuses it."""
    try:
        return read(raw), None
    except ApiError as refused:
        return None, refused


# Pieces that mean something to a JSON reader, so that what is put together of them is nearly JSON.
TOKENS = [
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b'"a"', b'"messages"', b"null", b"true", b"NaN",
    b"1e400", b"-0", b"9" * 5000, b"\\ud800", b"\\u0000", b"\xff", b"\xef\xbb\xbf", b" ", b"[" * 200,
    b"1.5e-999", b"//",
]  # fmt: skip


@BOUNDED
@given(st.binary(max_size=200) | st.lists(st.sampled_from(TOKENS), max_size=30).map(b"".join))
@example(b"{" + b'"a":{' * 5000 + b"}" * 5001)
@example(b'{"a":' + b"[" * 200_000)
@example(b'{"a":1,"a":2}')
def test_any_body_is_an_object_or_a_400(raw: bytes) -> None:
    value, refused = outcome(jsonbody.parse, raw)
    if refused is None:
        assert isinstance(value, dict)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    else:
        assert (refused.status, refused.code) == (400, "invalid_json")
        json.dumps(refused.body()).encode()


@BOUNDED
@given(st.text(max_size=80) | st.text(max_size=40).map("Bearer {}".format))
@example("Bearer \ud800")
@example("Bearer " + "k" * 100_000)
def test_any_key_is_known_or_a_401(header: str) -> None:
    with pytest.raises(ApiError) as refused:
        Authenticator([]).caller(header)
    assert refused.value.status == 401
    json.dumps(refused.value.body()).encode()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
GOOD = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@BOUNDED
@given(st.data())
def test_any_value_of_any_parameter_is_taken_or_names_it(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(PARAMETERS)))
    body = {**GOOD, "stream": True, "logprobs": True, name: data.draw(JSON)}
    _, refused = outcome(parse_chat_request, body)
    assert refused is None or (refused.status == 400 and refused.param is not None)


def _seeds(server: Any) -> list[bytes]:
    """Requests of all kinds, good ones."""
    body = json.dumps(server.body(max_tokens=2)).encode()
    host = b"Host: x\r\n"
    typed = host + b"Content-Type: application/json\r\n"
    line = b"POST /v1/chat/completions HTTP/1.1\r\n"
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return [
        line + typed + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        line + typed + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
        b"GET /v1/models HTTP/1.1\r\n" + host + b"Authorization: Bearer k\r\nX-Request-Id: a\r\n\r\n",
        b"GET /v1/models/tiny HTTP/1.0\r\n\r\n",
        b"HEAD /health HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n",
    ]


def _mutated(raw: bytes, draw: random.Random) -> bytes:
    """A request with a few bytes changed, doubled, lost or moved."""
    data = bytearray(raw)
    for _ in range(draw.choice((0, 1, 1, 2, 4, 16))):
        at, size = draw.randrange(len(data) + 1), draw.choice((1, 1, 2, 8, 40))
        match draw.randrange(5):
            case 0:
                data[at : at + size] = draw.randbytes(size)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at : at + size]
            case 3:
                data[at:at] = draw.choice(
                    (b"\r\n", b"\n", b"\0", b":", b" ", b"\xff", b"%", b'"', b"{", b"9")
                )
            case _:
                start = draw.randrange(len(data) + 1)
                data[at:at] = data[start : start + size]
    return bytes(data)


def _fed(raw: bytes, draw: random.Random) -> tuple[Heads, ApiError | None]:
    """A reader of heads that was given these bytes in pieces of any size, and why it refused them."""
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol._parser = HttpRequestParser(protocol, loop, 2**16)
    heads = Heads(protocol._parser)
    start = 0
    while start < len(raw):
        size = draw.choice((1, 7, 60, 1000))
        try:
            heads.feed_data(raw[start : start + size])
        except Refused as refused:
            return heads, refused.error
        start += size
    return heads, None


async def test_any_head_is_a_request_or_refused(start_server: StartServer) -> None:
    """A refusal is final, and has one of the statuses that the document lists."""
    draw, seeds, statuses = random.Random(21), _seeds(await start_server()), Counter[int]()
    for _ in range(1500):
        heads, refused = _fed(_mutated(draw.choice(seeds), draw), draw)
        if refused is not None:
            statuses[refused.status] += 1
            assert refused.close
            assert heads.feed_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == ((), False, b"")
    assert statuses.keys() <= {400, 414, 415, 417, 431, 505}
    assert 100 < statuses.total() < 1400


async def _statuses(server: Any, raw: bytes) -> list[int]:
    """The statuses of all answers to these bytes; the client waits a moment, then goes."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    got = bytearray()
    writer.write(raw)
    with suppress(TimeoutError, ConnectionError):
        while piece := await asyncio.wait_for(reader.read(65536), 0.25):
            got += piece
    writer.close()
    lines = [line for line in bytes(got).split(b"\r\n") if line.startswith(b"HTTP/1.")]
    return [int(line.split()[1]) for line in lines]


async def test_mutated_requests_get_an_answer_that_is_no_server_error(start_server: StartServer) -> None:
    server = await start_server(max_running=4, head_timeout=0.2, body_timeout=0.2, idle_timeout=0.5)
    draw = random.Random(20)
    requests = [_mutated(draw.choice(_seeds(server)), draw) for _ in range(600)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen: Counter[int] = Counter()
    for start in range(0, len(requests), 60):
        batch = requests[start : start + 60]
        for statuses in await asyncio.gather(*(_statuses(server, raw) for raw in batch)):
            seen.update(statuses)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    faults = {status: count for status, count in seen.items() if status >= 500 and status not in (503, 505)}
    assert not faults
    assert {200, 400, 404, 408} <= seen.keys(), "the requests should be good and bad in many ways"
    assert seen.total() > 300
    assert grown < 100 * 1024, "KiB"
    async with asyncio.timeout(10):
        while server.service.engine.open_sessions or server.service.orchestrator.running:
            await asyncio.sleep(0.01)
    assert (await server.ask(max_tokens=2))["usage"]["completion_tokens"] == 2
