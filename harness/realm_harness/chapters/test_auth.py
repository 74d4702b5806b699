"""Keys: a server that asks for one holds to it. A server that asks for none is not judged."""

from __future__ import annotations

from realm_harness.answers import Json, shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.chapters.test_errors import error_object
from realm_harness.exchange import Exchange
from realm_harness.prompts import HELLO
from realm_harness.target import MODELS, Target

REFUSED = (401, 403)
WRONG = "realm-wrong-key-0123456789"


def only_if_asked(target: Target) -> None:
    """Unjudged unless the server refuses a request without a key, in whatever words."""
    status = target.post(target.body(HELLO, 4), key=None).status or 0
    for_the_key = 400 <= status < 500 and status != 429 and bool(target.api_key)
    if status not in REFUSED and not for_the_key:
        raise Unjudged(f"the server asks for no key (without one: {status})")


@case("CHAT-AUTH-001", clause_id="auth.key-required", reason="a lock that opens with any key is none")
def test_wrong_key(target: Target) -> None:
    """A wrong key is refused where a missing one is, both with 401 or 403."""
    only_if_asked(target)
    for what, key in (("no", None), ("a wrong", "Bearer realm-wrong-key")):
        status = target.post(target.body(HELLO, 4), key=key).status
        demand(status in REFUSED, f"with {what} key the server answers {status}, and not 401 or 403")


@case("CHAT-AUTH-002", clause_id="auth.scheme", reason="servers have skipped the check for other schemes")
def test_other_scheme(target: Target) -> None:
    """Another scheme than Bearer is refused where a missing key is."""
    only_if_asked(target)
    for header in ("Basic cmVhbG06cmVhbG0=", "realm-wrong-key", "Token realm-wrong-key"):
        status = target.post(target.body(HELLO, 4), key=header).status
        demand(status in REFUSED, f"`Authorization: {header}` is let in with {status}")


def wrong_key(target: Target) -> Exchange:
    """What a wrong key gets; Unjudged where none is asked for, or any is taken."""
    only_if_asked(target)
    exchange = target.post(target.body(HELLO, 4), key=f"Bearer {WRONG}")
    if exchange.status not in REFUSED:
        raise Unjudged(f"a wrong key is answered with {exchange.status}: see CHAT-AUTH-001")
    return exchange


@case("CHAT-AUTH-003", clause_id="auth.status-401", reason="clients ask for another key only after a 401")
def test_wrong_key_is_401(target: Target) -> None:
    """A wrong key gets 401, not 403."""
    status = wrong_key(target).status
    demand(status == 401, f"a wrong key gets {status}")


@case("CHAT-AUTH-004", clause_id="auth.error-object", reason="clients show error.message to people")
def test_wrong_key_gets_an_error_object(target: Target) -> None:
    """The refusal of a key has an error object with a message."""
    error = error_object(wrong_key(target))
    message = error.get("message")
    demand(isinstance(message, str) and message, f"the error of a wrong key has no message: {shown(error)}")


@case("CHAT-AUTH-005", clause_id="auth.no-echo", reason="what is in an answer ends in logs and screenshots")
def test_keys_are_not_repeated(target: Target) -> None:
    """The refusal does not repeat the key that was sent."""
    exchange = wrong_key(target)
    said = exchange.body.decode("utf-8", "replace") + str(exchange.headers)
    demand(WRONG not in said, f"the refusal repeats the key: {shown(said)}")


@case("CHAT-AUTH-006", clause_id="auth.first", reason="strangers must learn nothing of what is there")
def test_key_comes_before_the_body(target: Target) -> None:
    """With a wrong key a bad body and an unknown model are refused for the key, not for what is in them."""
    wrong_key(target)
    bodies: dict[str, Json | bytes] = {
        "a body that is not JSON": b"{",
        "an unknown model": target.body(HELLO, 4) | {"model": "realm-no-such-model"},
    }
    for what, body in bodies.items():
        status = target.post(body, key=f"Bearer {WRONG}").status
        demand(status in REFUSED, f"with a wrong key {what} gets {status}")


@case("CHAT-AUTH-007", clause_id="auth.models", reason="names of models are customers' business")
def test_models_need_a_key_too(target: Target) -> None:
    """Where chat asks for a key, the list of models does too."""
    only_if_asked(target)
    for what, key in (("without a", None), ("with a wrong", f"Bearer {WRONG}")):
        status = target.get(MODELS, key=key).status
        demand(status in REFUSED, f"{MODELS} {what} key gets {status}")


@case("CHAT-AUTH-008", clause_id="auth.scheme-case", reason="HTTP's schemes have no case; proxies know it")
def test_scheme_has_no_case(target: Target) -> None:
    """`bearer` is as good as `Bearer`."""
    only_if_asked(target)
    status = target.post(target.body(HELLO, 4), key=f"bearer {target.api_key}").status
    demand(status == 200, f"`Authorization: bearer ...` with the right key gets {status}")
