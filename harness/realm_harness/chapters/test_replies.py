"""The heads of replies: what goes with a status, what with a body, and what the connection is good for."""

from __future__ import annotations

from realm_harness.answers import Answer, shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.exchange import Ending
from realm_harness.prompts import HELLO
from realm_harness.target import CHAT, MODELS, Target, accepted, encode, replied

NOWHERE = "/v1/realm-no-such-route"


@case("CHAT-REPLY-001", clause_id="reply.body-read-exactly", reason="the rest is taken for the next request")
def test_connection_after_a_refusal(target: Target) -> None:
    """After a refusal, the next request on the same connection is answered, if it is kept open."""
    refused = target.request("POST", NOWHERE, encode(target.body(HELLO, 4)))
    with target.connect() as connection:
        first = target.last = replied(connection.call(refused).read())
        if not connection.reusable:
            raise Unjudged("the server closes the connection after a refusal")
        second = target.last = connection.call(target.request("GET", MODELS)).read()
    demand(
        second.status == 200,
        f"after POST {NOWHERE} ({first.status}), GET {MODELS} on the same connection got {second.status}, "
        f"ending: {second.ending}",
    )


@case(
    "CHAT-REPLY-002", clause_id="reply.coding-unasked", reason="a client that asked for none cannot read it"
)
def test_no_coding_unasked(target: Target) -> None:
    """A client that accepts no compression gets none, whole or streamed."""
    for stream in (False, True):
        exchange = target.post(target.body(HELLO, 4, stream=stream))
        coding = (exchange.header("content-encoding") or "identity").lower()
        demand(coding == "identity", f"with Accept-Encoding: identity, the reply is encoded: {coding}")
        accepted(exchange, {})
        if not stream:
            Answer.read(exchange)


@case("CHAT-REPLY-003", clause_id="reply.allow", reason="it says which method was meant")
def test_allow(target: Target) -> None:
    """A 405 says in Allow which methods there are."""
    exchange = target.get(CHAT)
    if exchange.status != 405:
        raise Unjudged(f"GET {CHAT} gets {exchange.status}, not 405")
    allow = exchange.header("allow") or ""
    demand("POST" in allow.upper(), f"the 405 to GET {CHAT} has Allow: {allow or 'none'}")


@case("CHAT-REPLY-004", clause_id="reply.www-authenticate", reason="it says which kind of key is asked for")
def test_www_authenticate(target: Target) -> None:
    """A 401 says in WWW-Authenticate how to authenticate."""
    exchange = target.post(target.body(HELLO, 4), key=None)
    if exchange.status != 401:
        raise Unjudged(f"a request without a key gets {exchange.status}, not 401")
    challenge = exchange.header("www-authenticate")
    demand(challenge, f"the 401 has no WWW-Authenticate: {shown(exchange.body)}")


@case("CHAT-REPLY-005", clause_id="reply.request-id-kept", reason="one id finds a request in two logs")
def test_request_id_is_kept(target: Target) -> None:
    """Whether a client's own x-request-id comes back."""
    request = target.request("GET", MODELS)
    mine = "realm-4711"
    sent = type(request)(request.method, request.path, (*request.headers, ("X-Request-Id", mine)), b"")
    found = target.send(sent).header("x-request-id")
    kept = "comes back" if found == mine else f"is answered with {found}"
    raise Unjudged(f"a client's x-request-id {kept}")


@case(
    "CHAT-REPLY-006", clause_id="reply.charset", reason="a client that believes the label reads other words"
)
def test_charset(target: Target) -> None:
    """Neither an answer nor a stream is labelled with another character set than UTF-8."""
    for stream in (False, True):
        exchange = target.post(target.body(HELLO, 4, stream=stream))
        accepted(exchange, {})
        label = (exchange.header("content-type") or "").lower()
        charset = label.partition("charset=")[2].strip('"; ')
        demand(charset in ("", "utf-8", "utf8"), f"the reply is UTF-8 and is labelled {label}")


@case(
    "CHAT-REPLY-007", clause_id="reply.ends", reason="a client waits for bytes that never come, or loses some"
)
def test_replies_end_where_they_say(target: Target) -> None:
    """Answers, lists and refusals end where their heads say, and nothing comes behind them."""
    requests = [target.request("GET", path) for path in (MODELS, CHAT)]
    requests += [target.request("POST", CHAT, body) for body in (encode(target.body(HELLO, 4)), b"{}")]
    for request in requests:
        with target.connect() as connection:
            exchange = target.last = replied(connection.call(request).read())
            rest = connection.more(0.2)
        what = f"the reply ({exchange.status}) to {request.method} {request.path}"
        whole = exchange.ending in (Ending.COMPLETE, Ending.CLOSED)
        demand(whole, f"{what} says that more is to come; it ended: {exchange.ending} {exchange.detail}")
        demand(not rest, f"behind {what} comes {shown(rest)}")


@case("CHAT-REPLY-008", clause_id="reply.no-mark", reason="Go's and JavaScript's parsers stop at it")
def test_no_byte_order_mark(target: Target) -> None:
    """No JSON begins with a byte order mark."""
    bodies = encode(target.body(HELLO, 4)), b"{}"
    for request in (target.request("GET", MODELS), *(target.request("POST", CHAT, body) for body in bodies)):
        exchange = target.send(request)
        marked = exchange.body.startswith(b"\xef\xbb\xbf")
        demand(
            not marked, f"the reply ({exchange.status}) to {request.method} {request.path} begins with one"
        )
