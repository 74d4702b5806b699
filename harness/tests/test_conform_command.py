"""`realm conform` as a person and as a pipeline use it: output, files, exit codes."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result
from realm_harness.conform_commands import conform
from realm_mocks.server import MockServer


def run(*arguments: str) -> Result:
    return CliRunner().invoke(conform, [*arguments, "--timeout", "5"], catch_exceptions=False)


@pytest.fixture
def healthy() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


def test_healthy_server_passes_and_leaves_files(healthy: MockServer, tmp_path: Path) -> None:
    results, junit = tmp_path / "out" / "c.json", tmp_path / "out" / "c.xml"
    done = run(f"{healthy.url}/v1", "--case", "CHAT-STREAM-*", "--json", str(results), "--junit", str(junit))
    assert done.exit_code == 0, done.output
    written = json.loads(results.read_text("utf-8"))
    assert written["schema"] == "realm-conformance/1"
    assert written["target"]["model"] == healthy.model
    assert sum(written["summary"].values()) == len(written["cases"]) == 20
    assert all(case["wire"] and case["repro"] for case in written["cases"])
    assert ET.parse(junit).getroot().get("failures") == "0"


def test_a_broken_must_fails_and_is_explained(tmp_path: Path) -> None:
    results = tmp_path / "c.json"
    with MockServer(defects=["no-done"]) as server:
        done = run(server.url, "--case", "CHAT-STREAM-015", "--json", str(results))
    assert done.exit_code == 1
    for part in ("CHAT-STREAM-015 (MUST)", "0 [DONE]s", "[stream.done-once]", "openapi.json", "curl "):
        assert part in done.output
    (case,) = json.loads(results.read_text("utf-8"))["cases"]
    assert case["verdict"] == "failed"
    assert "0 [DONE]s" in case["message"]
    assert case["ending"] == "complete"


@pytest.mark.parametrize(("level", "code"), [("must", 0), ("should", 1)])
def test_a_broken_should_fails_only_when_asked(level: str, code: int) -> None:
    with MockServer(defects=["role-every-delta"]) as server:
        done = run(server.url, "--case", "CHAT-STREAM-005", "--level", level)
    assert done.exit_code == code
    assert "1 non-strict" in done.output


def test_nobody_there_is_one_line_and_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = run(f"http://127.0.0.1:{port}")
    assert done.exit_code == 2
    assert "Is the server running" in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_a_web_page_is_told_from_an_api() -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"<html")

        def log_message(self, *_: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            done = run(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join(5)
    assert done.exit_code == 2
    assert "web page" in done.output


def test_a_key_is_asked_for_and_used() -> None:
    with MockServer(api_key="secret") as server:
        without = run(server.url)
        wrong = run(server.url, "--api-key", "nope")
        right = run(server.url, "--api-key", "secret", "--case", "CHAT-AUTH-00[12]")
    assert (without.exit_code, wrong.exit_code, right.exit_code) == (2, 2, 0)
    assert "--api-key" in without.output
    assert "is the key right?" in wrong.output
    assert "2 ok" in right.output


def test_an_unknown_model_is_the_users_mistake(healthy: MockServer) -> None:
    done = run(healthy.url, "--model", "nobody")
    assert done.exit_code == 2
    assert "'nobody'" in done.output


def test_a_glob_that_matches_nothing(healthy: MockServer) -> None:
    done = run(healthy.url, "--case", "CHAT-NOTHING-*")
    assert done.exit_code == 2
    assert "no case matches" in done.output


def test_a_bad_url() -> None:
    assert run("ftp://example.com").exit_code == 2
