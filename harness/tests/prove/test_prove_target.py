"""The first look at a target: what is no URL, what does not answer, what is there."""

from __future__ import annotations

import socket
import threading

import pytest
from realm_harness.prove.target import TargetUnusable, check_target
from realm_mocks.server import MockServer


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "no http:// or https:// URL"),
        ("localhost:8000", "no http:// or https:// URL"),
        ("ftp://localhost", "no http:// or https:// URL"),
        ("http://", "no http:// or https:// URL"),
        ("http://localhost:eighty", "is no URL"),
        ("http://localhost:99999", "is no URL"),
        ("http://[::1", "is no URL"),
        ("http://user:pass@localhost", "REALM_API_KEY"),
        ("http://localhost:8000/?key=1", "query or fragment"),
        ("http://\x1b[2Jhost/", "URL|nothing answers"),
    ],
)
def test_a_wrong_url_is_named(url: str, said: str) -> None:
    with pytest.raises(TargetUnusable, match=said) as raised:
        check_target(url)
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)
    assert "pass@" not in str(raised.value)


def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(TargetUnusable, match="Is the server running"):
            check_target(f"http://127.0.0.1:{port}")


def test_something_else_than_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-nonsense\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(TargetUnusable, match="does not answer HTTP"):
            check_target(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join(60)


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
def test_a_server_is_found_with_and_without_its_prefix(mock_server: MockServer, ending: str) -> None:
    assert check_target(mock_server.url + ending) == mock_server.url


def test_a_refusal_is_an_answer() -> None:
    with MockServer(api_key="sk-1") as server:
        assert check_target(server.url) == server.url
