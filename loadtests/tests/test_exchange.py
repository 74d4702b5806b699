"""One exchange at the socket: stamps, keep-alive, and a name for every way to fail."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter_ns, sleep
from typing import Any

import pytest
import trustme
from realm_loadtests.wire.connection import Connection, Target, build_request
from realm_loadtests.wire.exchange import Timing, stream_chat
from realm_loadtests.wire.failures import MEANINGS, ExchangeFailure

TIMEOUT_S = 20.0


def ask(
    url: str,
    connection: Connection | None = None,
    *,
    timeout: float = TIMEOUT_S,
    timing: Timing | None = None,
) -> Timing:
    """Ask once, over a connection of its own if none is given."""
    target = Target.parse(url)
    used, timing = connection or Connection(target), timing or Timing()
    request = build_request(target, "POST", "/chat/completions", body=b"{}", api_key="k1")
    try:
        stream_chat(used, request, timing, timeout=timeout)
    finally:
        if connection is None:
            used.close()
    return timing


def wait_until(condition: Callable[[], bool]) -> None:
    limit = monotonic() + TIMEOUT_S
    while not condition():
        assert monotonic() < limit
        sleep(0.001)


def failure_of(url: str, timeout: float = TIMEOUT_S) -> ExchangeFailure:
    with pytest.raises(ExchangeFailure) as failure:
        ask(url, timeout=timeout)
    kind = failure.value.kind
    assert kind in MEANINGS or kind.startswith("http_")
    return failure.value


def test_every_token_has_its_own_stamp(scripted_server: Callable[..., Any], wire: Any) -> None:
    """An event is sent only when the one before has its stamp, so that sends and stamps must alternate."""
    timing, sends = Timing(), list[int]()

    def has_tokens(count: int) -> bool:
        return len(timing.answer.token_times) == count

    def answer(connection: socket.socket, request: bytes) -> None:
        chunks = [wire.framed(piece) for piece in wire.healthy]
        connection.sendall(wire.head + chunks[0])
        for number, piece in enumerate(chunks[1:4]):
            wait_until(partial(has_tokens, number))
            sends.append(perf_counter_ns())
            connection.sendall(piece)
        wait_until(partial(has_tokens, 3))
        sends.append(perf_counter_ns())
        connection.sendall(b"".join(chunks[4:]) + wire.end)

    ask(scripted_server(answer).url, timing=timing)
    order = [timing.sent]
    for sent, stamp in zip(sends, timing.answer.token_times, strict=False):
        order += [sent, stamp]
    order += [sends[-1], timing.ended]
    assert len(timing.answer.token_times) == 3
    assert order == sorted(order)


def test_the_connection_is_kept_and_the_key_sent(scripted_server: Callable[..., Any], wire: Any) -> None:
    server = scripted_server(lambda connection, _: connection.sendall(wire.chunked(*wire.healthy)))
    connection = Connection(Target.parse(server.url))
    timings = [ask(server.url, connection) for _ in range(3)]
    assert server.connections == 1
    assert [timing.connect > 0 for timing in timings] == [True, False, False]
    assert b"Authorization: Bearer k1\r\n" in server.requests[0]
    connection.close()


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(
    scripted_server: Callable[..., Any], wire: Any
) -> None:
    closed = threading.Event()

    def once(connection: socket.socket, request: bytes) -> None:
        connection.sendall(wire.chunked(*wire.healthy))
        connection.close()
        closed.set()
        raise StopIteration

    server = scripted_server(once)
    connection = Connection(Target.parse(server.url))
    for _ in range(2):
        ask(server.url, connection)
        assert closed.wait(TIMEOUT_S)
        closed.clear()
    assert server.connections == 2
    connection.close()


def test_connection_close_and_a_body_until_the_close_are_fine(
    scripted_server: Callable[..., Any], wire: Any
) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        connection.sendall(head + b"".join(wire.healthy))
        raise StopIteration

    server = scripted_server(answer)
    connection = Connection(Target.parse(server.url))
    assert ask(server.url, connection).answer.tokens == 3
    assert ask(server.url, connection).answer.tokens == 3
    assert server.connections == 2


def test_tls(scripted_server: Callable[..., Any], wire: Any, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = scripted_server(lambda connection, _: connection.sendall(wire.chunked(*wire.healthy)), context)
    connection = Connection(Target.parse(server.url), ca_file=str(tmp_path / "authority.pem"))
    assert [ask(server.url, connection).answer.tokens for _ in range(2)] == [3, 3]
    assert server.connections == 1
    connection.close()
    assert failure_of(server.url).kind == "tls_error"  # without the test's own authority


def reset(connection: socket.socket) -> None:
    """Close with a reset instead of an orderly end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


FAILURES: dict[str, Callable[[Any], bytes]] = {
    "connection_closed": lambda wire: wire.chunked(*wire.healthy[:3], end=False),
    "no_done": lambda wire: wire.chunked(*wire.healthy[:-1]),
    "no_finish_reason": lambda wire: wire.chunked(*wire.healthy[:3], wire.done),
    "data_after_done": lambda wire: wire.chunked(*wire.healthy, wire.chunk("more")),
    "malformed_event": lambda wire: wire.chunked(wire.event('{"choices": [')),
    "error_event": lambda wire: wire.chunked(wire.chunk("a"), wire.event({"error": {"message": "oops"}})),
    "malformed_http": lambda wire: b"220 mail.example ESMTP\r\n",
    "not_sse": lambda wire: wire.plain("200 OK", "application/json", b'{"choices": []}'),
    "http_500": lambda wire: wire.plain("500 Oops", "text/html", b"<h1>Oops</h1>"),
    "http_429": lambda wire: wire.plain("429 Slow", "application/json", b'{"error": {"message": "slow"}}'),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_response_that_is_no_stream_has_a_name(
    kind: str, scripted_server: Callable[..., Any], wire: Any
) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(FAILURES[kind](wire))
        raise StopIteration

    assert failure_of(scripted_server(answer).url).kind == kind


def test_the_servers_own_sentence_is_kept(scripted_server: Callable[..., Any], wire: Any) -> None:
    body = b'{"error": {"message": "no such model", "code": "model_not_found"}}'
    answer = wire.plain("404 Not Found", "application/json", body)
    server = scripted_server(lambda connection, _: connection.sendall(answer))
    assert failure_of(server.url).detail == "no such model"


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert failure_of(f"http://127.0.0.1:{port}").kind == "connect_refused"


def test_a_name_that_does_not_exist() -> None:
    assert failure_of("http://no-such-host.invalid").kind == "name_not_resolved"


def test_a_plain_server_is_not_a_tls_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_in_the_clear() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer_in_the_clear)
        thread.start()
        assert failure_of(f"https://127.0.0.1:{listener.getsockname()[1]}").kind == "tls_error"
        thread.join(TIMEOUT_S)


def test_a_reset_in_the_stream(scripted_server: Callable[..., Any], wire: Any) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        reset(connection)
        raise StopIteration

    assert failure_of(scripted_server(answer).url).kind == "connection_reset"


def test_a_stream_that_stops_is_a_timeout(scripted_server: Callable[..., Any], wire: Any) -> None:
    server = scripted_server(
        lambda connection, _: connection.sendall(wire.chunked(*wire.healthy[:3], end=False))
    )
    assert failure_of(server.url, timeout=0.3).kind == "timeout"


def test_a_trickle_does_not_outlive_the_limit(scripted_server: Callable[..., Any], wire: Any) -> None:
    """A byte now and then keeps any limit on silence from being reached; the limit is on the whole."""

    def trickle(connection: socket.socket, request: bytes) -> None:
        for byte in wire.chunked(*[wire.chunk("a")] * 1000):
            connection.sendall(bytes([byte]))
            threading.Event().wait(0.01)

    assert failure_of(scripted_server(trickle).url, timeout=0.5).kind == "timeout"


@pytest.mark.parametrize(
    ("url", "prefix", "authority"),
    [
        ("http://a", "/v1", "a"),
        ("http://a:80/", "/v1", "a"),
        ("https://a:8443/v1/", "/v1", "a:8443"),
        ("http://[::1]:8000/api", "/api/v1", "[::1]:8000"),
    ],
)
def test_targets(url: str, prefix: str, authority: str) -> None:
    target = Target.parse(url)
    assert (target.prefix, target.authority) == (prefix, authority)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://a", "http://", "http://a:port"])
def test_what_is_no_target(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - urlsplit has its own sentence for a bad port
        Target.parse(url)
