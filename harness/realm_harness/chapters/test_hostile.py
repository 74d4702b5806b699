"""Hostile requests: broken HTTP, broken JSON, too much of anything. Each is small enough for any server."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

from realm_harness.case import case, demand
from realm_harness.exchange import Ending
from realm_harness.hostile import chunked, head, length, question, say, turned_down, unharmed
from realm_harness.target import MODELS, Target

SMUGGLED = "realm-smuggled"


def posted(target: Target, body: bytes, what: str, *fields: bytes) -> None:
    """Send a chat request with this body, which has to be turned down."""
    say(target, head(target, length(body), *fields) + body, what)


@case("CHAT-HOSTILE-001", clause_id="hostile.two-lengths", reason="a proxy reads the other one")
def test_two_lengths(target: Target) -> None:
    """A request with two different lengths is turned down."""
    body = question(target)
    fields = length(body), length(body + b"0123456789")
    say(target, head(target, *fields) + body, "a request with two Content-Lengths")


@case("CHAT-HOSTILE-002", clause_id="hostile.one-request", reason="the rest is run as another user's request")
def test_length_beside_chunks(target: Target) -> None:
    """What stands behind a body that has both a length and chunks is not taken for a request."""
    smuggled = head(target, method="GET", path=f"{MODELS}/{SMUGGLED}")
    raw = head(target, b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + smuggled
    with target.connect() as connection:
        call = connection.call_bytes(target.raw(raw))
        target.last = exchange = call.read()
        rest = connection.more(min(1.0, target.timeouts.silence))
    unharmed(target, exchange, "a request with Content-Length and Transfer-Encoding")
    demand(not rest.startswith(b"HTTP/"), "what stood behind the body was run as a second request")


@case("CHAT-HOSTILE-003", clause_id="hostile.chunked-last", reason="nobody knows where such a body ends")
def test_chunked_not_last(target: Target) -> None:
    """A request whose last transfer coding is not chunked is turned down."""
    raw = head(target, b"Transfer-Encoding: chunked, identity") + chunked(question(target))
    say(target, raw, "Transfer-Encoding: chunked, identity")


@case(
    "CHAT-HOSTILE-004", clause_id="hostile.chunk-size", reason="a server that waits for ever is lost by noon"
)
def test_bad_chunk_size(target: Target) -> None:
    """A body whose chunk has no size is turned down, and soon."""
    raw = head(target, b"Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n"
    say(target, raw, "a chunk of size zz")


@case("CHAT-HOSTILE-005", clause_id="hostile.length-digits", reason="a proxy reads another number in it")
def test_length_with_a_sign(target: Target) -> None:
    """A length that is not all digits is turned down."""
    body = question(target)
    for bad in (b"+%d" % len(body), b"-1", b"0x%x" % len(body)):
        say(target, head(target, b"Content-Length: " + bad) + body, f"Content-Length: {bad.decode()}")


@case("CHAT-HOSTILE-006", clause_id="hostile.space-before-colon", reason="a proxy sees no such header")
def test_space_before_colon(target: Target) -> None:
    """A header with a space before its colon is turned down."""
    raw = head(target, b"X-Realm : 1", method="GET", path=MODELS)
    say(target, raw, "a header with a space before the colon")


@case("CHAT-HOSTILE-007", clause_id="hostile.no-host", reason="the request is for nobody in particular")
def test_no_host(target: Target) -> None:
    """An HTTP/1.1 request without a Host is turned down."""
    say(target, head(target, method="GET", path=MODELS, host=False), "a request without Host")


@case("CHAT-HOSTILE-008", clause_id="hostile.two-hosts", reason="a proxy routes by the other one")
def test_two_hosts(target: Target) -> None:
    """A request with two Hosts is turned down."""
    say(target, head(target, b"Host: other", method="GET", path=MODELS), "a request with two Hosts")


@case(
    "CHAT-HOSTILE-009",
    clause_id="hostile.long-header",
    reason="a cookie that grew must not look like an outage",
)
def test_long_header(target: Target) -> None:
    """A header of 64 KB causes neither a server error nor silence."""
    raw = head(target, b"X-Realm: " + b"a" * 65536, method="GET", path=MODELS)
    unharmed(target, target.send_bytes(raw, "GET"), "a header of 64 KB")


@case(
    "CHAT-HOSTILE-010",
    clause_id="hostile.long-target",
    reason="a prompt in a URL must not look like an outage",
)
def test_long_target(target: Target) -> None:
    """A target of 64 KB causes neither a server error nor silence."""
    raw = head(target, method="GET", path=f"{MODELS}?q={'a' * 65536}")
    unharmed(target, target.send_bytes(raw, "GET"), "a target of 64 KB")


@case(
    "CHAT-HOSTILE-011",
    clause_id="hostile.many-headers",
    reason="each costs memory, and none is refused alone",
)
def test_many_headers(target: Target) -> None:
    """A thousand headers cause neither a server error nor silence."""
    raw = head(target, *(b"X-Realm-%d: 1" % number for number in range(1000)), method="GET", path=MODELS)
    unharmed(target, target.send_bytes(raw, "GET"), "a request with 1000 headers")


@case(
    "CHAT-HOSTILE-012", clause_id="hostile.no-http", reason="scanners knock at every port, many times a day"
)
def test_no_http(target: Target) -> None:
    """Bytes that are not HTTP are turned down, and the server goes on."""
    tls = b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03" + bytes(range(200))
    for raw, what in ((b"realm\r\n\r\n", "a line that is not HTTP"), (tls + b"\r\n\r\n", "a TLS greeting")):
        say(target, raw, what)


@case(
    "CHAT-HOSTILE-013",
    clause_id="hostile.deep-json",
    reason="a parser that recurses takes the process with it",
)
def test_deep_json(target: Target) -> None:
    """JSON of 20,000 arrays inside each other is turned down."""
    posted(target, b'{"messages": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "JSON that is 20000 deep")


@case(
    "CHAT-HOSTILE-014",
    clause_id="hostile.not-a-number",
    reason="a NaN in the sampler makes every token equal",
)
def test_not_a_number(target: Target) -> None:
    """NaN, which is not JSON, is turned down as a temperature."""
    body = json.dumps(target.body("hello", 4, temperature=float("nan"))).encode()
    posted(target, body, "temperature: NaN")


@case(
    "CHAT-HOSTILE-015", clause_id="hostile.huge-float", reason="it becomes infinity on the way to the sampler"
)
def test_huge_float(target: Target) -> None:
    """A temperature of 1e400 is turned down."""
    body = json.dumps(target.body("hello", 4, temperature=7)).replace(": 7", ": 1e400").encode()
    posted(target, body, "temperature: 1e400")


@case("CHAT-HOSTILE-016", clause_id="hostile.huge-integer", reason="it fits no integer that a machine has")
def test_huge_integer(target: Target) -> None:
    """An `n` of 5,000 digits is turned down."""
    body = json.dumps(target.body("hello", 4, n=7)).replace(": 7", ": " + "7" * 5000).encode()
    posted(target, body, "`n` with 5000 digits")


@case(
    "CHAT-HOSTILE-017", clause_id="hostile.request-not-utf8", reason="half a character is a client's mistake"
)
def test_invalid_utf8(target: Target) -> None:
    """A body that is not UTF-8 causes no server error."""
    body = question(target).replace(b"hello", b"h\xffllo").replace(b"Say", b"S\xc3")
    exchange = target.send_bytes(head(target, length(body)) + body)
    unharmed(target, exchange, "a body that is not UTF-8")


@case("CHAT-HOSTILE-018", clause_id="hostile.byte-order-mark", reason="editors of Windows write one")
def test_byte_order_mark(target: Target) -> None:
    """A byte order mark before the JSON causes no server error."""
    body = b"\xef\xbb\xbf" + question(target)
    unharmed(target, target.send_bytes(head(target, length(body)) + body), "a byte order mark")


@case("CHAT-HOSTILE-019", clause_id="hostile.no-object", reason="a 500 makes clients send the same again")
def test_no_object(target: Target) -> None:
    """Bodies that hold no JSON object are turned down."""
    for body in (b"", b"null", b'"hello"', b"7", b"true"):
        posted(target, body, f"the body {body.decode() or 'of no bytes'}")


@case("CHAT-HOSTILE-020", clause_id="hostile.unknown-encoding", reason="what is read is not what was meant")
def test_unknown_encoding(target: Target) -> None:
    """A body in an encoding that nobody knows is turned down."""
    posted(target, question(target), "Content-Encoding: realm", b"Content-Encoding: realm")


@case(
    "CHAT-HOSTILE-021",
    clause_id="hostile.compressed",
    reason="a kilobyte must not become a gigabyte of memory",
)
def test_compressed_bomb(target: Target) -> None:
    """A compressed body that grows a thousandfold, to 32 MB of spaces, is turned down."""
    posted(target, gzip.compress(b" " * 2**25), "32 MB of spaces, compressed", b"Content-Encoding: gzip")


@case(
    "CHAT-HOSTILE-022",
    clause_id="hostile.paths",
    reason="what is joined to a path on the disk gets out of it",
)
def test_paths(target: Target) -> None:
    """Paths with dots, percent signs and bytes cause no server error."""
    for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/%00", "/%ff%fe", "/%", "//", "/\u00e9"):
        raw = head(target, method="GET", path=MODELS + path)
        unharmed(target, target.send_bytes(raw, "GET"), f"GET {MODELS}{path}")


@case("CHAT-HOSTILE-023", clause_id="hostile.keys", reason="a key with a typo in it is no server's fault")
def test_strange_keys(target: Target) -> None:
    """Keys of no letters, of bytes, and of 4 KB cause no server error."""
    nobody = replace(target, api_key=None)
    for value in (
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer \xff\xfe",
        b"Bearer " + b"k" * 4096,
        b"Basic Og==",
        b"\t",
    ):
        raw = head(nobody, b"Authorization: " + value, method="GET", path=MODELS)
        unharmed(target, target.send_bytes(raw, "GET"), f"Authorization: {value[:40]!r}")


@case(
    "CHAT-HOSTILE-024",
    clause_id="hostile.claimed-length",
    reason="who waits for it keeps a connection for nothing",
)
def test_claimed_length(target: Target) -> None:
    """A body that claims a terabyte is refused before it comes."""
    hasty = replace(target, timeouts=replace(target.timeouts, silence=min(5.0, target.timeouts.silence)))
    exchange = hasty.send_bytes(head(target, b"Content-Length: 1000000000000"))
    target.last = exchange
    demand(exchange.ending is not Ending.TIMEOUT, "a body that claims a terabyte is waited for")
    turned_down(target, exchange, "a body that claims a terabyte")


@case(
    "CHAT-HOSTILE-025",
    clause_id="hostile.answer-version",
    reason="proxies remember what a server speaks, and then do without keep-alive",
)
def test_refusals_are_in_http_1_1(target: Target) -> None:
    """A head that is broken is refused with the status line of HTTP/1.1."""
    raw = head(target, b"X-Realm : 1", method="GET", path=MODELS)
    exchange = say(target, raw, "a header with a space before the colon")
    version = exchange.version
    demand(version in (None, "1.1"), f"the refusal of a broken head is in HTTP/{version}")
