"""The strict WebSocket client: its frames, what it notes, and where a server has no WebSocket."""

import os

import pytest
from click.testing import CliRunner
from realm_harness.case import load_cases
from realm_harness.conform import judge
from realm_harness.conform_commands import conform
from realm_harness.discover import discover
from realm_harness.exchange import Address
from realm_harness.websocket.frames import FrameParser, Opcode, apply_mask, frame
from realm_mocks.server import MockServer
from realm_mocks.server.websocket.frames import FrameReader

KEY = b"\x11\x22\x33\x44"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_a_frame_is_what_a_server_reads(size: int) -> None:
    payload = os.urandom(size)
    [read] = FrameReader(1 << 20).feed(frame(Opcode.BINARY, payload, KEY))
    assert (read.payload, read.opcode, read.fin, read.masked, read.reserved) == (payload, 2, True, True, 0)


def test_a_frame_can_have_any_fault() -> None:
    [read] = FrameReader().feed(frame(3, b"x", KEY, fin=False, reserved=5, masked=False))
    assert (read.opcode, read.fin, read.reserved, read.masked) == (3, False, 5, False)
    assert frame(Opcode.TEXT, b"", KEY, announced=1 << 40)[2:10] == (1 << 40).to_bytes(8, "big")


def test_a_mask_is_its_own_inverse() -> None:
    for size in (0, 1, 4, 7, 1000):
        payload = bytes(range(256)) * 4
        assert apply_mask(KEY, apply_mask(KEY, payload[:size])) == payload[:size]
    assert apply_mask(KEY, b"\0\0\0\0\0") == KEY + KEY[:1]


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_frames_are_cut_wherever_the_reads_end(step: int) -> None:
    raw = b"\x81\x05hello" + b"\x89\x00" + b"\x01\x7e\x00\x80" + b"x" * 128 + b"\x88\x02\x03\xe8"
    parser = FrameParser()
    frames = [f for start in range(0, len(raw), step) for f in parser.feed(raw[start : start + step], start)]
    assert [(f.opcode, len(f.payload), f.fin) for f in frames] == [
        (1, 5, True), (9, 0, True), (1, 128, False), (8, 2, True),
    ]  # fmt: skip
    assert frames[-1].close_code == 1000
    assert parser.faults == []


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"\x81\x81\0\0\0\0x", "masked"),
        (b"\xc1\x01x", "reserved"),
        (b"\x83\x00", "unknown opcode 3"),
        (b"\x09\x00", "control frame"),
        (b"\x89\x7e\x00\x7e" + b"x" * 126, "control frame"),
        (b"\x81\x7e\x00\x01x", "more bytes than it needs"),
        (b"\x81\x7f\0\0\0\0\0\0\0\x01x", "more bytes than it needs"),
    ],
)
def test_what_a_server_may_not_send_is_noted(raw: bytes, fault: str) -> None:
    parser = FrameParser()
    assert len(parser.feed(raw, 0)) == 1
    assert len(parser.faults) == 1
    assert fault in parser.faults[0]


def test_a_server_without_a_websocket_has_not_implemented_it() -> None:
    [case] = load_cases(["CHAT-WSCALL-001"])
    with MockServer() as server:
        target = discover(server.url, timeout=5)
        assert judge(case, target).verdict == "ok"
        target.address = Address.parse(f"{server.url}/nowhere")
        result = judge(case, target)
        assert result.verdict == "unimplemented"
        assert "/nowhere/ws answers an upgrade to WebSocket with 404" in str(result.message)
        assert "--websocket" in str(result.message)


def test_a_websocket_that_was_named_has_to_be_there() -> None:
    with MockServer() as server:
        for place, code in (("/ws", 0), ("/elsewhere", 1)):
            where = server.url.replace("http", "ws") + place
            arguments = [server.url, "--websocket", where, "--case", "CHAT-WSCALL-001", "--timeout", "5"]
            done = CliRunner().invoke(conform, arguments)
            assert done.exit_code == code, done.output


def test_the_evidence_shows_the_frames_and_hides_the_key() -> None:
    [case] = load_cases(["CHAT-WSCALL-013"])
    with MockServer(api_key="very-secret-key") as server:
        result = judge(case, discover(server.url, api_key="very-secret-key", timeout=5))
    texts = "\n".join(str(entry["text"]) for entry in result.wire)
    assert '"function": "no_such_function"' in texts
    assert "no_such_function" in result.repro
    assert "very-secret-key" not in texts + result.repro
