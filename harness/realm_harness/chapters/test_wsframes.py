"""Frames: what RFC 6455 forbids ends the connection with its code, and what it allows is understood."""

from __future__ import annotations

import json
import struct

from realm_harness.answers import shown
from realm_harness.case import Broken, case, demand
from realm_harness.prompts import HELLO
from realm_harness.target import Target
from realm_harness.websocket.dialogue import Dialogue, open_dialogue
from realm_harness.websocket.frames import Opcode
from realm_harness.websocket.socket import SocketClosed

HEALTH = json.dumps({"id": "health", "function": "health"}).encode()


def closed_with(dialogue: Dialogue, target: Target, code: int, what: str) -> None:
    """Broken unless the server now closes with `code`."""
    try:
        got = dialogue.socket.closed(target.timeouts.silence)
    except TimeoutError:
        raise Broken(f"after {what} the connection stays open; expected is a close with {code}") from None
    demand(got == code, f"after {what} the connection is closed with {got}; expected is {code}")


@case(
    "CHAT-WSFRAME-001",
    clause_id="ws.frames",
    reason="strict clients, browsers first, end the connection over it",
)
def test_frames_of_the_server(target: Target) -> None:
    """The server's own frames are not masked, whole where they have to be, and without reserved bits."""
    with open_dialogue(target) as dialogue:
        dialogue.ask("generate", prompt=HELLO, max_tokens=8, stream=True)
        faults = dialogue.socket.faults
        demand(not faults, f"the server sent {'; '.join(faults)}")


@case("CHAT-WSFRAME-002", clause_id="ws.unmasked", reason="a script in a browser could speak other protocols")
def test_unmasked(target: Target) -> None:
    """A frame without a mask ends the connection with 1002."""
    with open_dialogue(target) as dialogue:
        dialogue.socket.send_frame(Opcode.TEXT, HEALTH, masked=False)
        closed_with(dialogue, target, 1002, "a frame without a mask")


@case(
    "CHAT-WSFRAME-003", clause_id="ws.protocol-error", reason="what was misread once is misread from then on"
)
def test_protocol_errors(target: Target) -> None:
    """Reserved bits, unknown opcodes and control frames in pieces end the connection with 1002."""
    for what, opcode, fin, reserved in (
        ("a reserved bit", Opcode.TEXT, True, 1),
        ("an unknown opcode", 5, True, 0),
        ("a ping in pieces", Opcode.PING, False, 0),
        ("a continuation of nothing", Opcode.CONTINUATION, True, 0),
    ):
        with open_dialogue(target) as dialogue:
            dialogue.socket.send_frame(opcode, b"", fin=fin, reserved=reserved)
            closed_with(dialogue, target, 1002, what)


@case("CHAT-WSFRAME-004", clause_id="ws.utf8", reason="replaced characters are a changed prompt")
def test_invalid_utf8(target: Target) -> None:
    """A text message that is not UTF-8 ends the connection with 1007."""
    with open_dialogue(target) as dialogue:
        dialogue.socket.send_frame(Opcode.TEXT, HEALTH.replace(b"health", b"he\xffth"))
        closed_with(dialogue, target, 1007, "a message that is not UTF-8")


@case("CHAT-WSFRAME-005", clause_id="ws.binary", reason="a client that waits for an answer waits for ever")
def test_binary(target: Target) -> None:
    """A binary message ends the connection with 1003, or is answered with an error."""
    with open_dialogue(target) as dialogue:
        dialogue.socket.send_frame(Opcode.BINARY, HEALTH)
        try:
            got = dialogue.receive()[1]
        except TimeoutError:
            raise Broken("a binary message is answered with nothing") from None
        except SocketClosed as closed:
            demand(closed.code == 1003, f"after a binary message {closed}; expected is 1003")
            return
        demand(got.get("status") == "error", f"a binary message is answered with {shown(got)}")


@case(
    "CHAT-WSFRAME-006", clause_id="ws.too-big", reason="a head of ten bytes can ask for all memory there is"
)
def test_too_big(target: Target) -> None:
    """A frame that announces a terabyte ends the connection with 1009, at once."""
    with open_dialogue(target) as dialogue:
        dialogue.socket.send_frame(Opcode.TEXT, b"x" * 64, announced=1 << 40)
        closed_with(dialogue, target, 1009, "the head of a frame of a terabyte")


@case("CHAT-WSFRAME-007", clause_id="ws.ping", reason="proxies and clients take silence for death")
def test_ping(target: Target) -> None:
    """A ping is answered with a pong that carries its bytes."""
    with open_dialogue(target) as dialogue:
        dialogue.socket.send_frame(Opcode.PING, b"are you there?")
        try:
            while (got := dialogue.socket.next_frame()).opcode not in (Opcode.PONG, Opcode.CLOSE):
                pass
        except (TimeoutError, SocketClosed) as error:
            raise Broken(f"no pong came: {error}") from None
        right = got.opcode == Opcode.PONG and got.payload == b"are you there?"
        demand(right, f"the answer to a ping is opcode {got.opcode} with {shown(got.payload)}")


@case(
    "CHAT-WSFRAME-008",
    clause_id="ws.goodbye",
    reason="without it a client cannot tell an end from an accident",
)
def test_goodbye(target: Target) -> None:
    """A close frame is answered with one, and then the connection is closed."""
    with open_dialogue(target) as dialogue:
        dialogue.socket.send_frame(Opcode.CLOSE, struct.pack("!H", 1000))
        closed_with(dialogue, target, 1000, "a goodbye")
        try:
            dialogue.socket.next_frame()
        except TimeoutError:
            raise Broken("after its close frame the server leaves the connection open") from None
        except SocketClosed:
            return
        raise Broken("after its close frame the server sends another frame")


@case("CHAT-WSFRAME-009", clause_id="ws.fragments", reason="libraries cut messages where they like")
def test_fragments(target: Target) -> None:
    """A message in several frames, with a ping between them, is read as one."""
    with open_dialogue(target) as dialogue:
        log = dialogue.expect("health")
        dialogue.socket.send_frame(Opcode.TEXT, HEALTH[:9], fin=False)
        dialogue.socket.send_frame(Opcode.PING, b"between")
        dialogue.socket.send_frame(Opcode.CONTINUATION, HEALTH[9:20], fin=False)
        dialogue.socket.send_frame(Opcode.CONTINUATION, HEALTH[20:])
        dialogue.until(lambda: bool(log.replies))
        demand(log.end.get("status") == "complete", f"it is answered with {shown(log.end)}")


@case("CHAT-WSFRAME-010", clause_id="ws.faults-alone", reason="one broken client has ended all others")
def test_faults_hurt_nobody_else(target: Target) -> None:
    """Faulty frames on one connection do not disturb another one."""
    with open_dialogue(target) as bystander:
        for payload in (b"\xff", b"\xc3\x28"):
            with open_dialogue(target) as dialogue:
                dialogue.socket.send_frame(Opcode.TEXT, payload)
                closed_with(dialogue, target, 1007, "a message that is not UTF-8")
        data = bystander.ask("generate", prompt=HELLO, max_tokens=4).result
        demand(isinstance(data.get("text"), str), f"the bystander's answer has no text: {shown(data)}")
