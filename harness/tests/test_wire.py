"""The raw client against scripted sockets: what it sees, and how it says that an exchange ended."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from realm_harness.exchange import Address, Ending, Exchange, Sent, Timeouts, Unreachable, curl
from realm_harness.wire import Connection
from realm_harness.wirelog import MAX_ENTRIES, WireLog

QUICK = Timeouts(connect=5.0, silence=0.3, total=1.0)
REQUEST = Sent("POST", "/v1/chat/completions", (("Authorization", "Bearer top-secret"),), b'{"a": 1}')
HEAD = b"HTTP/1.1 200 OK\r\nServer: scripted\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

Script = Callable[[socket.socket], None]


@contextmanager
def scripted(script: Script) -> Iterator[Address]:
    """A server that takes one connection and plays `script` on it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            script(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Address("http", "127.0.0.1", listener.getsockname()[1], "")
    finally:
        listener.close()
        thread.join(5)


def ask(script: Script, log: WireLog | None = None) -> Exchange:
    with scripted(script) as address, Connection(address, QUICK, log or WireLog()) as connection:
        return connection.call(REQUEST).read()


def plays(*pieces: bytes, hold: float = 0.0) -> Script:
    """Read the request, send the pieces one by one, wait, close."""

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.02)
        time.sleep(hold)

    return script


@pytest.mark.parametrize(
    ("pieces", "hold", "ending", "body"),
    [
        ((HEAD + b"Content-Length: 2\r\n\r\nhi",), 0.0, Ending.COMPLETE, b"hi"),
        ((CHUNKED, b"2\r\nhi\r\n", b"0\r\n\r\n"), 0.0, Ending.COMPLETE, b"hi"),
        ((HEAD + b"\r\n", b"hi"), 0.0, Ending.CLOSED, b"hi"),
        ((HEAD + b"Content-Length: 9\r\n\r\nhi",), 0.0, Ending.CUT, b"hi"),
        ((CHUNKED, b"2\r\nhi\r\n"), 0.0, Ending.CUT, b"hi"),
        ((HEAD + b"Content-Length: 9\r\n\r\nhi",), 1.0, Ending.TIMEOUT, b"hi"),
        ((b"HELO mail.example\r\n\r\n",), 0.0, Ending.MALFORMED, b""),
        ((), 0.0, Ending.CUT, b""),
        ((), 1.0, Ending.TIMEOUT, b""),
    ],
)  # fmt: skip
def test_endings(pieces: tuple[bytes, ...], hold: float, ending: Ending, body: bytes) -> None:
    exchange = ask(plays(*pieces, hold=hold))
    assert (exchange.ending, exchange.body) == (ending, body)


def test_a_drip_without_end_is_endless() -> None:
    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(CHUNKED)
        deadline = time.monotonic() + 5
        try:
            while time.monotonic() < deadline:
                connection.sendall(b"1\r\nx\r\n")
                time.sleep(0.05)
        except OSError:
            return

    assert ask(script).ending is Ending.ENDLESS


def test_each_read_keeps_its_time() -> None:
    exchange = ask(plays(HEAD + b"Content-Length: 4\r\n\r\nab", b"cd"))
    times = [at for at, _ in exchange.segments]
    assert [data for _, data in exchange.segments] == [b"ab", b"cd"]
    assert exchange.sent_ns < times[0] < times[1] <= exchange.ended_ns
    assert exchange.header("Server") == "scripted"


def test_leaving_closes_the_connection() -> None:
    closed = threading.Event()

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(HEAD + b"Content-Length: 99\r\n\r\nhi")
        if connection.recv(1) == b"":
            closed.set()

    with scripted(script) as address, Connection(address, QUICK, WireLog()) as connection:
        call = connection.call(REQUEST)
        next(call.segments())
        assert call.leave().ending is Ending.LEFT
    assert closed.wait(5)


def test_the_key_is_in_no_log_even_when_sent_in_pieces() -> None:
    log = WireLog(("top-secret",))
    with (
        scripted(plays(HEAD + b"Content-Length: 10\r\n\r\ntop-secret")) as address,
        Connection(address, QUICK, log) as connection,
    ):
        connection.call(REQUEST, pieces=7, pause=0.001).read()
    entries = log.entries()
    assert [entry["dir"] for entry in entries] == [">", "<"]
    assert "top-secret" not in str(entries)
    assert "Bearer ***" in str(entries[0]["text"])


def test_a_long_log_leaves_out_its_middle_and_says_so() -> None:
    log = WireLog()
    for number in range(MAX_ENTRIES * 2):
        log.add(1, "<", b"%d" % number)
    texts = [str(entry["text"]) for entry in log.entries()]
    assert (texts[0], texts[-1]) == ("0", str(MAX_ENTRIES * 2 - 1))
    assert any("left out" in text for text in texts)


def test_curl_repeats_the_request_without_the_key() -> None:
    line = curl(Address.parse("http://localhost:8080/v1"), REQUEST)
    assert line.startswith("curl ")
    assert "top-secret" not in line
    assert "$REALM_API_KEY" in line
    assert line.endswith("'http://localhost:8080/v1/chat/completions'")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:8080", "http://localhost:8080"),
        ("localhost:8080/v1/", "http://localhost:8080"),
        ("https://example.com/api/v1", "https://example.com/api"),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_urls(url: str, expected: str) -> None:
    assert Address.parse(url).url == expected


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://host:notaport"])
def test_bad_urls_are_explained(url: str) -> None:
    with pytest.raises(ValueError, match="http://localhost:8080"):
        Address.parse(url)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match="cannot connect"):
        Connection(Address("http", "127.0.0.1", port, ""), QUICK, WireLog())
