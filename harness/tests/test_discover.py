"""What is found out of a server before the cases begin."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from realm_harness.discover import discover


class Stub(http.server.BaseHTTPRequestHandler):
    """Lists two models, and answers any chat request."""

    cards: list[dict[str, Any]]

    def do_GET(self) -> None:
        self._answer({"data": self.cards})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"choices": []})

    def _answer(self, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Stub.cards = [{"id": "first", "precision": "int8"}, {"id": "second", "precision": 8}]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_precision_is_what_the_card_says(url: str) -> None:
    assert discover(url, timeout=5).precision == "int8"
    assert discover(url, timeout=5).facts.as_json()["precision"] == "int8"


@pytest.mark.parametrize("model", ["second", "third"])
def test_a_card_that_does_not_say_it_is_no_fault(url: str, model: str) -> None:
    assert discover(url, model=model, timeout=5).precision is None


def test_a_list_of_another_make_is_no_fault(url: str) -> None:
    Stub.cards = ["first"]  # type: ignore[list-item]
    assert discover(url, model="first", timeout=5).precision is None
