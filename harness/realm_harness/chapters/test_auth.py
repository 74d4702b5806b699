"""Keys: a server that asks for one holds to it. A server that asks for none is not judged."""

from __future__ import annotations

from realm_harness.case import Unjudged, case, demand
from realm_harness.prompts import HELLO
from realm_harness.target import Target

REFUSED = (401, 403)


def only_if_asked(target: Target) -> None:
    """Unjudged unless the server refuses a request without a key."""
    status = target.post(target.body(HELLO, 4), key=None).status
    if status not in REFUSED:
        raise Unjudged(f"the server asks for no key (without one: {status})")


@case("CHAT-AUTH-001", clause_id="auth.key-required", reason="a lock that opens with any key is none")
def test_wrong_key(target: Target) -> None:
    """A wrong key is refused where a missing one is."""
    only_if_asked(target)
    status = target.post(target.body(HELLO, 4), key="Bearer realm-wrong-key").status
    demand(status in REFUSED, f"without a key the server refuses, with a wrong key it answers {status}")


@case("CHAT-AUTH-002", clause_id="auth.scheme", reason="servers have skipped the check for other schemes")
def test_other_scheme(target: Target) -> None:
    """Another scheme than Bearer is refused where a missing key is."""
    only_if_asked(target)
    for header in ("Basic cmVhbG06cmVhbG0=", "realm-wrong-key", "Token realm-wrong-key"):
        status = target.post(target.body(HELLO, 4), key=header).status
        demand(status in REFUSED, f"`Authorization: {header}` is let in with {status}")
