"""Frames that no library sends: each ends its connection with the code of RFC 6455, section 7.4.1."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import pytest
from realm_reference.server.websocket.checking import CheckedFrames

HEALTH = b'{"id": "a", "function": "health"}'
KEY = b"\x01\x02\x03\x04"


def frame(
    opcode: int, payload: bytes = b"", *, fin: int = 1, rsv: int = 0, mask: bool = True, length: int = -1
) -> bytes:
    """A frame; `length` makes its head lie."""
    size = len(payload) if length < 0 else length
    first = fin << 7 | rsv << 4 | opcode
    extended = b"" if size < 126 else struct.pack("!H", size) if size < 65536 else struct.pack("!Q", size)
    short = size if size < 126 else 126 if size < 65536 else 127
    if not mask:
        return bytes([first, short]) + extended + payload
    masked = bytes(byte ^ KEY[i % 4] for i, byte in enumerate(payload))
    return bytes([first, 0x80 | short]) + extended + KEY + masked


async def opened(server: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose welcome has been read."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # RFC 6455 section 1.3
    assert b"permessage-deflate" not in head
    assert b'"connected"' in (await next_frame(reader))[1]
    return reader, writer


async def next_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Opcode and payload of what a server may send: whole, unmasked frames."""
    async with asyncio.timeout(10):
        first, second = await reader.readexactly(2)
        assert first & 0xF0 == 0x80, "one whole frame without reserved bits"
        assert second & 0x80 == 0, "a server's frames are not masked"
        size = second
        if second == 126:
            size = int.from_bytes(await reader.readexactly(2))
        elif second == 127:
            size = int.from_bytes(await reader.readexactly(8))
        return first & 0xF, await reader.readexactly(size)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(1, HEALTH, mask=False), 1002, id="unmasked"),
        pytest.param(frame(1, HEALTH) + frame(1, HEALTH, mask=False), 1002, id="the second unmasked"),
        pytest.param(frame(9, mask=False), 1002, id="an unmasked ping"),
        pytest.param(frame(1, HEALTH, rsv=4), 1002, id="compressed, which was not agreed"),
        pytest.param(frame(1, HEALTH, rsv=1), 1002, id="a reserved bit"),
        pytest.param(frame(3, HEALTH), 1002, id="an unknown data opcode"),
        pytest.param(frame(11), 1002, id="an unknown control opcode"),
        pytest.param(frame(9, fin=0), 1002, id="a ping in pieces"),
        pytest.param(frame(9, b"x" * 126), 1002, id="a ping that is too long"),
        pytest.param(frame(0, HEALTH), 1002, id="the rest of nothing"),
        pytest.param(frame(1, HEALTH[:5], fin=0) + frame(1, HEALTH[5:]), 1002, id="a message in another"),
        pytest.param(frame(8, b"\x03"), 1002, id="half a close code"),
        pytest.param(frame(8, struct.pack("!H", 1005)), 1002, id="a close code that nobody may send"),
        pytest.param(frame(1, b"\xff\xfe"), 1007, id="not UTF-8"),
        pytest.param(frame(1, b"\xed\xa0\x80"), 1007, id="a surrogate in UTF-8"),
        pytest.param(frame(1, b"\xc3", fin=0) + frame(0, b"\x28"), 1007, id="not UTF-8 over two frames"),
        pytest.param(frame(8, struct.pack("!H", 1000) + b"\xff"), 1007, id="a reason that is not UTF-8"),
        pytest.param(frame(2, HEALTH), 1003, id="binary"),
        pytest.param(frame(1, length=1 << 40), 1009, id="a terabyte is announced"),
        pytest.param(frame(1, length=1 << 63), 1009, id="more than any file is announced"),
        pytest.param(frame(1, fin=0) + frame(0, b"x" * 60_000, fin=0) * 18, 1009, id="too much in pieces"),
        pytest.param(frame(8, struct.pack("!H", 1000)), 1000, id="goodbye"),
        pytest.param(frame(8, struct.pack("!H", 4321) + b"why"), 1000, id="goodbye with another code"),
    ],
)
async def test_a_faulty_frame_ends_the_connection_with_its_code(server: Any, sent: bytes, code: int) -> None:
    reader, writer = await opened(server)
    writer.write(sent)
    frames = []
    while not frames or frames[-1][0] != 8:
        frames.append(await next_frame(reader))
    assert int.from_bytes(frames[-1][1][:2]) == code
    assert len(frames[-1][1]) <= 125
    frames[-1][1][2:].decode()
    writer.write(frame(8, frames[-1][1]))
    async with asyncio.timeout(5):
        assert await reader.read() == b"", "the connection is closed, nothing comes after the goodbye"
    writer.close()


async def test_an_empty_close_is_answered(server: Any) -> None:
    reader, writer = await opened(server)
    writer.write(frame(8))
    assert (await next_frame(reader))[0] == 8
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_frames_may_come_in_any_pieces(server: Any, size: int) -> None:
    reader, writer = await opened(server)
    padded = HEALTH[:-1] + b" " * 200 + b"}"
    raw = frame(1, padded[:100], fin=0) + frame(9, b"!") + frame(0, padded[100:]) + frame(1, HEALTH)
    for start in range(0, len(raw), size):
        writer.write(raw[start : start + size])
        await asyncio.sleep(0)
    got = [await next_frame(reader) for _ in range(3)]
    assert [opcode for opcode, _ in got] == [10, 1, 1]
    assert got[0][1] == b"!"
    assert got[1] == got[2]
    writer.close()


async def test_the_next_client_is_served_after_all_that(server: Any) -> None:
    for sent in (frame(1, HEALTH, mask=False), frame(1, length=1 << 40), b"\x81", frame(1, HEALTH)[:9]):
        _, writer = await opened(server)
        writer.write(sent)
        writer.transport.abort()
    reader, writer = await opened(server)
    writer.write(frame(1, HEALTH))
    assert b'"complete"' in (await next_frame(reader))[1]
    writer.close()


async def test_a_cancel_on_the_heels_of_its_call_is_no_loss(server: Any) -> None:
    reader, writer = await opened(server)
    call = b'{"id": "a", "function": "generate", "params": {"prompt": "hello", "max_tokens": 500}}'
    stop = b'{"id": "b", "function": "cancel", "params": {"id": "a"}}'
    writer.write(frame(1, call) + frame(1, stop))
    replies = [json.loads((await next_frame(reader))[1]) for _ in range(2)]
    assert {reply["id"]: reply["status"] for reply in replies} == {"a": "cancelled", "b": "complete"}
    writer.close()


class Recorder:
    """A parser that keeps what it is fed."""

    def __init__(self) -> None:
        self.fed = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.fed += data
        return False, b""


@pytest.mark.parametrize("size", [1, 2, 3, 5, 11, 10_000])
def test_the_mask_is_checked_wherever_the_reads_end(size: int) -> None:
    good = b"".join(frame(1, b"x" * n) for n in (0, 1, 125, 126, 300, 65535, 65536))
    bad = frame(1, b"y" * 200, mask=False)
    recorder = Recorder()
    guard = CheckedFrames(recorder)
    raw = good + bad + good
    for start in range(0, len(raw), size):
        guard.feed_data(raw[start : start + size])
        if len(recorder.fed) > len(good):
            break
    assert recorder.fed == good + b"\xf1\x80"


@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_the_allowance_is_for_all_frames_together(size: int) -> None:
    within = frame(9, b"x" * 60) + frame(1, b"x" * 30, fin=0)
    recorder = Recorder()
    guard = CheckedFrames(recorder)
    guard.allowance = 100
    raw = within + frame(0, b"x" * 11) + within
    for start in range(0, len(raw), size):
        guard.feed_data(raw[start : start + size])
        if len(recorder.fed) > len(within):
            break
    assert recorder.fed == within + b"\x81\xff\x7f" + b"\xff" * 7
