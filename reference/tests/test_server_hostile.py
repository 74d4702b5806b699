"""Clients that send what no client should: each gets its status, the connection ends, nobody else notices."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from realm_reference.server.settings import ServerSettings
from realm_reference.server.wire import jsonbody
from realm_reference.server.wire.heads import MAX_FIELDS, MAX_HEAD, MAX_LINE

CHAT = "/v1/chat/completions"
HOST = b"Host: x\r\n"
JSON = b"Content-Type: application/json\r\n"
StartServer = Callable[..., Awaitable[Any]]


async def exchange(server: Any, *pieces: bytes, pause: float = 0.0) -> bytes:
    """All that the server says to these bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        async with asyncio.timeout(15):
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(pause)
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def answers(raw: bytes) -> list[tuple[int, dict[str, str], Any]]:
    """The responses in `raw`: status, headers, JSON body; all of them have to be whole."""
    found = []
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
        length = int(headers["content-length"])
        assert len(rest) >= length
        found.append((int(status.split()[1]), headers, json.loads(rest[:length])))
        raw = rest[length:]
    return found


def refusal(raw: bytes, status: int, code: str) -> dict[str, str]:
    """The headers of the one answer in `raw`, which is an error object and ends the connection."""
    assert raw.startswith(b"HTTP/1.1 ")
    [(got, headers, body)] = answers(raw)
    error = body["error"]
    assert (got, error["code"]) == (status, code), error
    assert set(error) == {"message", "type", "param", "code"}
    assert headers["content-type"].startswith("application/json")
    assert headers["connection"] == "close"
    assert headers["x-request-id"].startswith("req-")
    assert headers["server"].startswith("realm-reference/")
    return headers


def post(body: bytes, *fields: bytes, path: bytes = CHAT.encode()) -> bytes:
    head = b"".join(field + b"\r\n" for field in fields)
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + JSON + head + b"\r\n" + body


def length(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


GET = b"GET /health HTTP/1.1\r\n"
HEADS = {
    "no HTTP": (b"hello\r\n\r\n", 400, "bad_request"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 80, 400, "bad_request"),
    "NUL": (b"\0" * 64, 400, "bad_request"),
    "unknown method": (b"FETCH /health HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request"),
    "no target": (b"GET HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    "HTTP/3.7": (b"GET /health HTTP/3.7\r\n" + HOST + b"\r\n", 400, "bad_request"),
    "HTTP/2.0": (b"GET /health HTTP/2.0\r\n" + HOST + b"\r\n", 505, "http_version_not_supported"),
    "no host": (GET + b"\r\n", 400, "bad_request"),
    "two hosts": (GET + HOST + HOST + b"\r\n", 400, "bad_request"),
    "space before colon": (GET + HOST + b"X : 1\r\n\r\n", 400, "bad_request"),
    "folded header": (GET + HOST + b"X: 1\r\n 2\r\n\r\n", 400, "bad_request"),
    "nameless header": (GET + HOST + b": 1\r\n\r\n", 400, "bad_request"),
    "NUL in header": (GET + HOST + b"X: a\0b\r\n\r\n", 400, "bad_request"),
    "bare CR": (GET + HOST + b"X: a\rb\r\n\r\n", 400, "bad_request"),
    "long target": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "uri_too_long"),
    "long header": (GET + HOST + b"X: " + b"a" * 9000 + b"\r\n\r\n", 431, "headers_too_large"),
    "long header name": (GET + HOST + b"X" * 9000 + b": a\r\n\r\n", 431, "headers_too_large"),
    "a megabyte header": (GET + HOST + b"X: " + b"a" * 2**20 + b"\r\n\r\n", 431, "headers_too_large"),
    "a megabyte target": (b"GET /" + b"a" * 2**20, 414, "uri_too_long"),
    "500 headers": (GET + HOST + b"X: a\r\n" * 500 + b"\r\n", 431, "headers_too_large"),
    "strange Expect": (GET + HOST + b"Expect: wonders\r\n\r\n", 417, "expectation_failed"),
}


@pytest.mark.parametrize("name", HEADS)
async def test_bad_heads(server: Any, name: str) -> None:
    head, status, code = HEADS[name]
    refusal(await exchange(server, head), status, code)
    assert (await server.ask(max_tokens=2))["usage"]["completion_tokens"] == 2


SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
SHAPES = {
    "two lengths": post(b"{}", b"Content-Length: 2", b"Content-Length: 2"),
    "two different lengths": post(b"{}" + SMUGGLED, b"Content-Length: 2", b"Content-Length: 40"),
    "a list of lengths": post(b"{}", b"Content-Length: 2, 2"),
    "length and chunks": post(
        b"2\r\n{}\r\n0\r\n\r\n" + SMUGGLED, b"Content-Length: 4", b"Transfer-Encoding: chunked"
    ),
    "chunks and length": post(
        b"2\r\n{}\r\n0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: chunked", b"Content-Length: 4"
    ),
    "two encodings": post(b"0\r\n\r\n", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    "chunked not last": post(b"0\r\n\r\n", b"Transfer-Encoding: chunked, identity"),
    "no such encoding": post(b"0\r\n\r\n", b"Transfer-Encoding: xchunked"),
    "a tab in the encoding": post(b"0\r\n\r\n", b"Transfer-Encoding:\x0bchunked"),
    "a negative length": post(b"{}", b"Content-Length: -2"),
    "a signed length": post(b"{}", b"Content-Length: +2"),
    "a hexadecimal length": post(b"{}", b"Content-Length: 0x2"),
    "a huge length": post(b"{}", b"Content-Length: " + b"9" * 40),
    "a length with a space": post(b"{}", b"Content-Length: 2 2"),
    "a header after bare LF": b"POST " + CHAT.encode() + b" HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}",
}


@pytest.mark.parametrize("name", SHAPES)
async def test_what_two_servers_could_read_in_two_ways(server: Any, name: str) -> None:
    refusal(await exchange(server, SHAPES[name]), 400, "bad_request")


BODIES = {
    "no chunk size": (post(b"zz\r\n{}\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"), 400, "bad_request"),
    "an endless chunk size": (post(b"f" * 40 + b"\r\n", b"Transfer-Encoding: chunked"), 400, "bad_request"),
    "a broken chunk behind a good one": (
        post(b"2\r\n{}\r\n-1\r\n", b"Transfer-Encoding: chunked"),
        400,
        "bad_request",
    ),
    "a length past the limit": (post(b"", b"Content-Length: 99999999"), 413, "request_too_large"),
}


@pytest.mark.parametrize("name", BODIES)
async def test_bodies_that_break(server: Any, name: str) -> None:
    request, status, code = BODIES[name]
    refusal(await exchange(server, request), status, code)


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "rot13"])
async def test_content_encodings_that_are_not_supported(server: Any, encoding: str) -> None:
    request = post(
        b"{}", b"Content-Encoding: " + encoding.encode(), b"Connection: close", b"Content-Length: 2"
    )
    refusal(await exchange(server, request), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "body",
    [b"{}" * 20, gzip.compress(b"{}", mtime=0)[:-1], gzip.compress(b"{}", mtime=0) * 2, b""],
    ids=["plain", "cut", "two", "empty"],
)
async def test_what_does_not_unpack(server: Any, body: bytes) -> None:
    request = post(body, b"Content-Encoding: gzip", b"Connection: close", length(body))
    refusal(await exchange(server, request), 400, "bad_request")


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
async def test_a_compressed_body_is_read_and_a_bomb_is_not(
    start_server: StartServer, pack: Callable[[bytes], bytes]
) -> None:
    server = await start_server(max_body_bytes=1 << 20)
    encoding = b"Content-Encoding: " + (b"gzip" if pack is gzip.compress else b"deflate")
    good = pack(json.dumps(server.body(max_tokens=2)).encode())
    [(status, _, _)] = answers(
        await exchange(server, post(good, encoding, b"Connection: close", length(good)))
    )
    assert status == 200
    bomb = pack(b" " * (64 << 20))
    request = post(bomb, encoding, length(bomb))
    refusal(await exchange(server, request), 413, "request_too_large")


async def test_a_body_past_the_limit_is_refused_before_it_is_read(server: Any) -> None:
    request = post(b"", b"Content-Length: 99999999", b"Expect: 100-continue")
    raw = await exchange(server, request)
    assert b"100 Continue" not in raw
    refusal(raw, 413, "request_too_large")
    chunks = (b"10000\r\n" + b" " * 0x10000 + b"\r\n" for _ in range(80))
    refusal(
        await exchange(server, post(b"", b"Transfer-Encoding: chunked"), *chunks), 413, "request_too_large"
    )


async def test_a_good_body_is_asked_for(server: Any) -> None:
    body = json.dumps(server.body(max_tokens=2)).encode()
    head = post(b"", length(body), b"Expect: 100-continue", b"Connection: close")
    raw = await exchange(server, head, body, pause=0.05)
    assert raw.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_bodies_are_bounded_together(start_server: StartServer) -> None:
    server = await start_server(max_bodies_bytes=100_000)
    first = asyncio.create_task(exchange(server, post(b" " * 90_000, b"Content-Length: 91000"), pause=0.5))
    await asyncio.sleep(0.1)
    late = post(b" " * 20_000, b"Content-Length: 20000", b"Connection: close")
    headers = refusal(await exchange(server, late), 503, "overloaded")
    assert int(headers["retry-after"]) >= 1
    first.cancel()
    await asyncio.sleep(0.05)
    assert (await server.ask(max_tokens=2))["usage"]["completion_tokens"] == 2


async def test_a_head_that_trickles_gets_408(start_server: StartServer) -> None:
    server = await start_server(head_timeout=0.3)
    trickle = [GET + HOST, *(b"X-%d: 1\r\n" % i for i in range(40))]
    refusal(await exchange(server, *trickle, pause=0.02), 408, "request_timeout")


async def test_a_body_that_trickles_gets_408(start_server: StartServer) -> None:
    server = await start_server(body_timeout=0.3)
    trickle = [post(b"", b"Content-Length: 1000"), *([b" "] * 30)]
    refusal(await exchange(server, *trickle, pause=0.02), 408, "request_timeout")


async def test_a_head_without_end_is_cut(server: Any) -> None:
    fields = (b"X-%d: %s\r\n" % (i, b"a" * 4000) for i in range(90))
    refusal(await exchange(server, GET + HOST, *fields, pause=0.001), 431, "headers_too_large")


async def test_a_connection_that_says_nothing_ends(start_server: StartServer) -> None:
    server = await start_server(idle_timeout=0.2)
    assert await exchange(server) == b""
    [(status, _, _)] = answers(await exchange(server, GET + HOST + b"\r\n"))
    assert status == 200, "and so does one that has been answered"


async def test_a_good_request_before_a_bad_one_is_answered_first(server: Any) -> None:
    raw = await exchange(server, GET + HOST + b"\r\n", b"nonsense\r\n\r\n", pause=0.05)
    assert [status for status, _, _ in answers(raw)] == [200, 400]
    body = json.dumps(server.body(max_tokens=2)).encode()
    good = post(body, length(body))
    raw = await exchange(server, good[:-5], good[-5:] + b"nonsense\r\n\r\n", pause=0.05)
    assert [status for status, _, _ in answers(raw)] == [200, 400]


async def test_many_requests_at_once_on_one_connection(server: Any) -> None:
    raw = await exchange(server, (GET + HOST + b"\r\n") * 200 + GET + HOST + b"Connection: close\r\n\r\n")
    assert [status for status, _, _ in answers(raw)] == [200] * 201


PATHS = [
    "//v1/models", "/v1/../v1/models", "/v1/models/..", "/v1/%6dodels/%2e%2e/", "/v1/models/%00",
    "/v1/models/%ff", "/v1/models/..%2f..%2fetc%2fpasswd", "/v1//models", "/V1/models", "/v1/models/", "/.",
    "/..", "/%2e%2e/health", "/v1/models%20", "/v1/models/\u00e9", "/v1/models;x=1", "/v1/models\\x",
    "http://other/v1/nothing", "*",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_path_tricks(server: Any, path: str) -> None:
    """A path is one of ours or it is not; none is normalised into another, none is an error of ours."""
    request = b"GET " + path.encode("latin-1") + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    [(status, headers, body)] = answers(await exchange(server, request))
    assert status in (400, 404)
    assert headers["x-request-id"]
    assert body["error"]["message"]


async def test_no_trick_goes_round_the_key(start_server: StartServer) -> None:
    server = await start_server(keys=())
    for path in (
        "/v1/models",
        "/%761/models",
        "/v1/%6dodels",
        "http://x/v1/models",
        "/v1/models?",
        "/v1/models#a",
    ):
        for method in ("GET", "HEAD"):
            request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
            assert b"HTTP/1.1 401 " in await exchange(server, request), path


@pytest.mark.parametrize(
    "value", ["a" * 129, "a b", "<x>", "a\tb", "\u00e9", '"', "", "a,b", "x" * 8000, "{id}", "%0d%0aX:1"]
)
async def test_a_request_id_that_is_not_plain_is_replaced(server: Any, value: str) -> None:
    request = GET + HOST + b"X-Request-Id: " + value.encode() + b"\r\nConnection: close\r\n\r\n"
    [(status, headers, _)] = answers(await exchange(server, request))
    assert (status, headers["x-request-id"][:4]) == (200, "req-")


async def test_the_metrics_port_speaks_the_same_errors(start_server: StartServer) -> None:
    server = await start_server()
    async with aiohttp.ClientSession(server.url) as client:
        text = await (await client.get("/metrics")).text()
        before = text.count("realm_requests_by_status_total")
        await exchange(server, b"nonsense\r\n\r\n")
        text = await (await client.get("/metrics")).text()
    assert 'realm_requests_by_status_total{status_code="400"} 1.0' in text
    assert text.count("realm_requests_by_status_total") > before


def test_the_operators_page_has_the_bounds() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "operate.md").read_text("utf-8")
    settings = ServerSettings()
    for bound in (
        f"{MAX_HEAD >> 10} KiB and {MAX_FIELDS} headers",
        f"a target or a header {MAX_LINE} bytes, {settings.head_timeout:g} s",
        f"{settings.max_body_bytes >> 20} MiB as it comes and unpacked",
        f"(gzip, deflate), {settings.body_timeout:g} s",
        f"| {settings.max_bodies_bytes >> 20} MiB |",
        f"{jsonbody.MAX_DEPTH} levels",
        f"| {settings.write_timeout:g} s, 64 KiB",
        f"| {settings.idle_timeout:g} s |",
    ):
        assert bound in page, bound
