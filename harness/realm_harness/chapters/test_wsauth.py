"""The WebSocket's handshake: the upgrade, the key, its time, the welcome. Without one nobody is judged."""

from __future__ import annotations

from realm_harness.answers import shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.target import Target
from realm_harness.websocket.dialogue import Dialogue, open_dialogue, open_socket
from realm_harness.websocket.socket import SocketClosed

AUTH_SECONDS = 10.0
"""Realm's time for a key."""


def asked_for_key(target: Target) -> Dialogue:
    """A fresh connection that has been asked for a key; Unjudged where none is asked for."""
    dialogue = Dialogue(target, open_socket(target))
    try:
        dialogue.before.append(dialogue.receive()[1])
    except (TimeoutError, SocketClosed) as error:
        dialogue.socket.leave()
        raise Unjudged(f"no first message came (see CHAT-WSAUTH-002): {error}") from None
    if dialogue.guarded:
        return dialogue
    dialogue.socket.leave()
    raise Unjudged(f"the WebSocket asks for no key; it begins with {shown(dialogue.before[0])}")


@case(
    "CHAT-WSAUTH-001",
    clause_id="ws.accept",
    reason="a client that checks the answer, as all browsers do, cannot connect otherwise",
)
def test_accept(target: Target) -> None:
    """The answer to the upgrade has the Sec-WebSocket-Accept that belongs to the key."""
    with open_socket(target) as socket:
        given = socket.exchange.header("sec-websocket-accept")
        demand(socket.accepted, f"Sec-WebSocket-Accept is {shown(given)}, which is not the key's")
        extensions = socket.exchange.header("sec-websocket-extensions")
        demand(not extensions, f"the extension {shown(extensions)} is used, and was not offered")


@case("CHAT-WSAUTH-002", clause_id="ws.welcome", reason="clients wait for it before their first call")
def test_welcome(target: Target) -> None:
    """After the handshake comes {"status":"connected","version","tenant_id"}."""
    with open_dialogue(target) as dialogue:
        welcome = dialogue.before[-1]
        demand(welcome.get("status") == "connected", f"the welcome has another status: {shown(welcome)}")
        for name in ("version", "tenant_id"):
            demand(
                isinstance(welcome.get(name), str), f"the welcome has no string `{name}`: {shown(welcome)}"
            )


@case(
    "CHAT-WSAUTH-003",
    clause_id="ws.auth-first",
    reason="a welcome without a key tells strangers too much",
)
def test_nothing_before_the_key(target: Target) -> None:
    """Before the key there is auth_required, and nothing else."""
    with asked_for_key(target) as dialogue:
        more = dialogue.quiet(0.1)
        demand(not more, f"before any key was sent came {shown(more)}")


@case("CHAT-WSAUTH-004", clause_id="ws.auth-success", reason="clients learn from it as whom they are known")
def test_success(target: Target) -> None:
    """A good key is answered with auth_success and the tenant, the same as in the welcome."""
    with asked_for_key(target):
        pass
    with open_dialogue(target) as dialogue:
        success, welcome = dialogue.before[-2], dialogue.before[-1]
        demand(success.get("type") == "auth_success", f"a good key is answered with {shown(success)}")
        tenants = success.get("tenant_id"), welcome.get("tenant_id")
        demand(tenants[0] == tenants[1], f"auth_success and the welcome name different tenants: {tenants}")


@case("CHAT-WSAUTH-005", clause_id="ws.auth-wrong", reason="a lock that opens with any key is none")
def test_wrong_key(target: Target) -> None:
    """A wrong key is answered with auth_failed."""
    with asked_for_key(target) as dialogue:
        dialogue.authenticate("realm-wrong-key")
        answer = dialogue.next()
        demand(answer.get("type") == "auth_failed", f"a wrong key is answered with {shown(answer)}")
        demand(isinstance(answer.get("error"), str), f"auth_failed has no string `error`: {shown(answer)}")


@case("CHAT-WSAUTH-006", clause_id="ws.auth-closes", reason="an open connection invites the next guess")
def test_closed_after_failure(target: Target) -> None:
    """After auth_failed the server closes the connection."""
    with asked_for_key(target) as dialogue:
        dialogue.authenticate("realm-wrong-key")
        try:
            dialogue.receive()
            dialogue.socket.closed(target.timeouts.silence)
        except TimeoutError:
            demand(False, "after a wrong key the connection stays open")
        except SocketClosed:
            pass


@case("CHAT-WSAUTH-007", clause_id="ws.auth-call", reason="calls before the key are calls of nobody")
def test_call_before_the_key(target: Target) -> None:
    """A call in place of the key is not answered, but refused."""
    with asked_for_key(target) as dialogue:
        dialogue.call("early", "health")
        answer = dialogue.reply_or_close() or {"type": "auth_failed"}
        demand(answer.get("type") == "auth_failed", f"a call before the key is answered: {shown(answer)}")


@case(
    "CHAT-WSAUTH-008",
    clause_id="ws.auth-timeout",
    reason="the silent hold their places for ever",
)
def test_key_in_time(target: Target) -> None:
    """Who sends no key within ten seconds is turned away."""
    with asked_for_key(target) as dialogue:
        wait = min(AUTH_SECONDS * 1.5, target.timeouts.silence)
        try:
            dialogue.socket.closed(wait)
        except TimeoutError:
            demand(False, f"{wait:g} s after connecting, a client without a key is still connected")


@case("CHAT-WSAUTH-009", clause_id="ws.tenant", reason="a client's word has decided whose quota was used")
def test_other_tenant(target: Target) -> None:
    """A call that names another tenant is refused with UNAUTHORIZED; one that names the own is not."""
    with open_dialogue(target) as dialogue:
        mine = dialogue.before[-1].get("tenant_id")
        if not isinstance(mine, str):
            raise Unjudged(f"the welcome names no tenant (see CHAT-WSAUTH-002): {shown(dialogue.before[-1])}")
        own = dialogue.ask_as(mine, "health").end
        demand(own.get("status") == "complete", f"a call for one's own tenant is not done: {shown(own)}")
        code = dialogue.ask_as(f"not-{mine}"[:64], "health").error.get("code")
        demand(code == "UNAUTHORIZED", f"a call for another tenant is refused with the code {shown(code)}")
