"""Transport: content types, bodies in pieces, keep-alive, routes and methods."""

from __future__ import annotations

import json

from realm_harness.answers import Answer, shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.exchange import Ending, Exchange
from realm_harness.hostile import chunked, head, length, question
from realm_harness.prompts import HELLO
from realm_harness.target import CHAT, MODELS, Target, accepted, encode, replied

SPACE = b" " * 3000
"""Means nothing in JSON, and takes no room in the smallest context."""


@case(
    "CHAT-HTTP-001",
    clause_id="http.json-type",
    reason="openai-python hands a body of another type to the program as a string",
)
def test_whole_answer_is_labelled_json(target: Target) -> None:
    """A whole answer has the content type application/json."""
    exchange = target.ask(HELLO, 8).exchange
    kind = exchange.media_type
    demand(kind.endswith("json"), f"the answer's Content-Type is {exchange.header('content-type')!r}")


@case("CHAT-HTTP-002", clause_id="http.json-utf8", reason="a strict parser stops at the first bad byte")
def test_whole_answer_is_utf8_json(target: Target) -> None:
    """A whole answer is valid JSON in UTF-8, also when it holds more than ASCII."""
    target.ask("Repeat: naïve façade Straße 🙂 日本語", 32, temperature=0)


@case(
    "CHAT-HTTP-003",
    clause_id="http.body-read-whole",
    reason="long prompts arrive in many segments; a server that reads once sees half a JSON",
)
def test_body_in_pieces(target: Target) -> None:
    """A request of 3 KB that arrives in five segments is read whole."""
    raw = encode(target.body(HELLO, 4))
    exchange = target.post(raw[:-1] + SPACE + raw[-1:], pieces=5)
    accepted(exchange, {})
    Answer.read(exchange)


@case("CHAT-HTTP-004", clause_id="http.keep-alive", reason="clients pool connections and reuse them")
def test_connection_takes_a_second_request(target: Target) -> None:
    """Two requests on one connection both get whole answers, if the server keeps it open."""
    request = target.request("POST", CHAT, encode(target.body(HELLO, 4)))
    with target.connect() as connection:
        first = target.last = replied(connection.call(request).read())
        accepted(first, {})
        if first.ending is not Ending.COMPLETE or (first.header("connection") or "").lower() == "close":
            raise Unjudged("the server closes the connection after an answer, and says so")
        second = target.last = connection.call(request).read()
    demand(
        second.status == 200 and second.ending is Ending.COMPLETE,
        f"the second request on a kept-alive connection got status {second.status}, ending: {second.ending}",
    )


@case(
    "CHAT-HTTP-005",
    clause_id="http.request-utf8",
    reason="a server that reads Latin-1 sees other words than the user wrote",
)
def test_raw_and_escaped_characters_mean_the_same(target: Target) -> None:
    """The same prompt in raw UTF-8 and in \\u escapes has the same number of prompt tokens."""
    body = target.body("Repeat: 🙂🎉 日本語 naïve façade привет", 4)
    counts = []
    for raw in (json.dumps(body, ensure_ascii=False).encode(), json.dumps(body).encode()):
        exchange = target.post(raw)
        accepted(exchange, {})
        answer = Answer.read(exchange)
        if not answer.usage:
            raise Unjudged("the server sends no usage, by which the prompts could be compared")
        counts.append(answer.count("prompt_tokens"))
    demand(
        counts[0] == counts[1], f"prompt_tokens is {counts[0]} for raw UTF-8 and {counts[1]} for the escapes"
    )


@case(
    "CHAT-HTTP-006",
    clause_id="http.unknown-route",
    reason="a web page with status 200 on a mistyped route hides the mistake",
)
def test_unknown_route(target: Target) -> None:
    """A route that does not exist is answered with 404."""
    exchange = target.get("/v1/realm-no-such-route")
    demand(exchange.status == 404, f"GET /v1/realm-no-such-route got {exchange.status}")


@case("CHAT-HTTP-007", clause_id="http.wrong-method", reason="a 200 or a 500 for a GET hides the mistake")
def test_wrong_method(target: Target) -> None:
    """GET on the chat route is refused with a 4xx."""
    exchange = target.get(CHAT)
    demand(400 <= (exchange.status or 0) < 500, f"GET {CHAT} got {exchange.status}")


@case("CHAT-HTTP-008", clause_id="http.method-405", reason="405 tells a wrong method from a wrong route")
def test_method_status(target: Target) -> None:
    """How a wrong method is refused."""
    exchange = target.get(CHAT)
    raise Unjudged(f"GET {CHAT} got {exchange.status}, Allow: {exchange.header('allow')}")


@case(
    "CHAT-HTTP-009", clause_id="http.request-id", reason="with an id a user can point at a request in the log"
)
def test_request_id(target: Target) -> None:
    """Whether replies carry a request id."""
    found = target.ask(HELLO, 4).exchange.header("x-request-id")
    raise Unjudged(f"x-request-id: {found}" if found else "replies have no x-request-id")


@case(
    "CHAT-HTTP-010",
    clause_id="http.unknown-field",
    reason="newer clients send fields that older servers lack",
)
def test_unknown_field(target: Target) -> None:
    """An unknown field in the request causes no server error."""
    exchange = target.post(target.body(HELLO, 4, realm_unknown_field={"a": [1, 2]}))
    demand(
        exchange.status is not None and exchange.status < 500,
        f"an unknown field got {exchange.status}: {shown(exchange.body)}",
    )


@case(
    "CHAT-HTTP-011",
    clause_id="http.chunked-request",
    reason="a client that streams its body knows no length beforehand",
)
def test_chunked_request(target: Target) -> None:
    """A request body in chunks is read like one with a length."""
    raw = head(target, b"Transfer-Encoding: chunked") + chunked(question(target))
    exchange = replied(target.send_bytes(raw))
    accepted(exchange, {})
    Answer.read(exchange)


@case(
    "CHAT-HTTP-012",
    clause_id="http.old-clients-no-chunks",
    reason="a client of HTTP/1.0 takes the sizes of the chunks for text",
)
def test_no_chunks_for_http_1_0(target: Target) -> None:
    """A stream for an HTTP/1.0 client is not sent in chunks."""
    body = encode(target.body(HELLO, 4, stream=True))
    exchange = replied(target.send_bytes(head(target, length(body), version="1.0") + body))
    coding = exchange.header("transfer-encoding")
    demand(coding is None, f"the reply to an HTTP/1.0 request has Transfer-Encoding: {coding}")


@case(
    "CHAT-HTTP-013",
    clause_id="http.head-no-body",
    reason="the body is taken for the head of the next reply",
)
def test_head_has_no_body(target: Target) -> None:
    """The reply to HEAD has no body."""
    with target.connect() as connection:
        call = connection.call(target.request("HEAD", MODELS))
        exchange = target.last = replied(call.read())
        rest = connection.more(0.3)
    demand(not rest, f"behind the reply ({exchange.status}) to HEAD {MODELS} comes {shown(rest)}")


@case(
    "CHAT-HTTP-014",
    clause_id="http.absolute-target",
    reason="a client behind a proxy names the whole URL",
)
def test_absolute_target(target: Target) -> None:
    """A request whose target is a whole URL is answered like one with a path."""
    line = f"GET {target.address.url}{MODELS} HTTP/1.1".encode()
    raw = line + b"\r\n" + head(target, method="GET").partition(b"\r\n")[2]
    exchange = replied(target.send_bytes(raw, "GET"))
    demand(exchange.status == 200, f"GET {target.address.url}{MODELS} got {exchange.status}")


@case(
    "CHAT-HTTP-015",
    clause_id="http.pipelined",
    reason="a client that sent two requests waits for two replies",
)
def test_two_requests_in_one_segment(target: Target) -> None:
    """Two requests in one segment get two replies, if the server keeps the connection open."""
    raw = head(target, method="GET", path=MODELS)
    with target.connect() as connection:
        call = connection.call_bytes(target.raw(raw * 2, "GET"))
        first = target.last = replied(call.read())
        if first.ending is not Ending.COMPLETE or (first.header("connection") or "").lower() == "close":
            raise Unjudged("the server closes the connection after the first reply")
        rest = connection.more(target.timeouts.silence)
    demand(rest.startswith(b"HTTP/1."), f"the second of two requests in one segment gets {shown(rest)}")


@case(
    "CHAT-HTTP-016",
    clause_id="http.expect-continue",
    reason="curl waits with a large prompt until it is asked for it",
)
def test_expect_continue(target: Target) -> None:
    """A client that waits for 100 Continue is told to go on, or gets its final reply."""
    body = question(target)
    with target.connect() as connection:
        raw = head(target, length(body), b"Expect: 100-continue")
        connection.send_bytes(raw)
        line = connection.more(target.timeouts.silence).partition(b"\r\n")[0]
        target.last = Exchange(target.raw(raw))
    said = shown(line) if line else "nothing"
    demand(line.startswith(b"HTTP/1.1 "), f"a client that waits for 100 Continue gets {said}")
    demand(b" 408 " not in line, f"a client that waits for 100 Continue waits in vain: {said}")


@case(
    "CHAT-HTTP-017",
    clause_id="http.blank-line-first",
    reason="old clients send one line end too many behind a body",
)
def test_blank_line_before_a_request(target: Target) -> None:
    """An empty line before a request is passed over."""
    exchange = replied(target.send_bytes(b"\r\n" + head(target, method="GET", path=MODELS), "GET"))
    demand(exchange.status == 200, f"a request behind an empty line got {exchange.status}")
