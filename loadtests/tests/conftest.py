"""Servers that misbehave to order, and the command run as its user runs it."""

from __future__ import annotations

import json
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from realm_loadtests.commands.load import load
from realm_loadtests.records.begun import Begun
from realm_loadtests.records.records import RECORDS_FILE, Record
from realm_loadtests.settings import Settings

Handler = Callable[[socket.socket, bytes], None]
COMMAND = [sys.executable, "-c", "from realm_loadtests.commands.load import load; load()"]
TEST_LIMIT_S = 60


class ScriptedServer:
    """Hands each request on each connection, as raw bytes, to a function that answers as it likes.

    The connection is closed when the function raises StopIteration, and kept for a further request otherwise.
    """

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        self._handler, self._tls = handler, tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.connections = 0
        self.requests: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, StopIteration):
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            connection.settimeout(TEST_LIMIT_S)
            while request := read_request(connection):
                self.requests.append(request)
                self._handler(connection, request)
        connection.close()


def read_request(connection: socket.socket) -> bytes:
    """One request with its body; empty when the client closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ),
        0,
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def scripted_server() -> Iterator[Callable[..., ScriptedServer]]:
    """Start servers with a handler each; they are closed at the end of the test."""
    servers: list[ScriptedServer] = []

    def start(handler: Handler, tls: ssl.SSLContext | None = None) -> ScriptedServer:
        servers.append(ScriptedServer(handler, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def event(document: dict[str, Any] | str) -> bytes:
    """One server-sent event."""
    text = document if isinstance(document, str) else json.dumps(document)
    return f"data: {text}\n\n".encode()


def chunk(text: str | None = None, *, finish: str | None = None, **more: Any) -> bytes:
    """A chat completion chunk as an event; without text it only names the role."""
    delta = {"role": "assistant"} if text is None else {"content": text}
    choice = {"index": 0, "delta": {} if finish else delta, "finish_reason": finish}
    return event({"id": "c1", "object": "chat.completion.chunk", "choices": [choice], **more})


DONE = event("[DONE]")
HEALTHY = [chunk(), chunk("a"), chunk("b"), chunk("c"), chunk(finish="stop"), DONE]


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def framed(piece: bytes) -> bytes:
    """A piece of a body as a chunk of the chunked coding."""
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """A 200 response with an event stream, a chunk a piece."""
    return HEAD + b"".join(map(framed, pieces)) + (END if end else b"")


def plain(status: str, content_type: str, body: bytes) -> bytes:
    """A response with a Content-Length."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


MODELS = plain("200 OK", "application/json", b'{"object":"list","data":[{"id":"m1"}]}')


class Wire(NamedTuple):
    """The bytes of responses, for the tests' own servers."""

    event: Callable[..., bytes] = event
    chunk: Callable[..., bytes] = chunk
    chunked: Callable[..., bytes] = chunked
    framed: Callable[..., bytes] = framed
    plain: Callable[..., bytes] = plain
    head: bytes = HEAD
    end: bytes = END
    done: bytes = DONE
    healthy: tuple[bytes, ...] = tuple(HEALTHY)
    models: bytes = MODELS


@pytest.fixture(scope="session")
def wire() -> Wire:
    return Wire()


class Outcome(NamedTuple):
    """What a run of the command left behind."""

    code: int
    stdout: str
    stderr: str
    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "load.json").read_text())
        return document

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "requests.jsonl").read_text().splitlines()]


@pytest.fixture
def start_load(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `realm load URL ARGUMENTS` as a process, with its result in `tmp_path`."""
    started: list[subprocess.Popen[str]] = []

    def start(url: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = [*COMMAND, url, "--out", str(tmp_path), *arguments]
        pipe = subprocess.PIPE
        started.append(
            subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **environment})
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run_load(start_load: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> Callable[..., Outcome]:
    """Run `realm load` to its end."""

    def run(url: str, *arguments: str, **environment: str) -> Outcome:
        process = start_load(url, *arguments, **environment)
        stdout, stderr = process.communicate(timeout=TEST_LIMIT_S)
        return Outcome(process.returncode, stdout, stderr, tmp_path)

    return run


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Report a run that never was, of a hundred requests with a slow beginning and a stall now and then, and
    some that failed; returns its folder.
    """

    def report(*arguments: str, tenants: tuple[str, ...] = (), failures: int = 0) -> Path:
        folder = tmp_path_factory.mktemp("reported")
        url, names = "http://127.0.0.1:9", "tenants" if tenants else None
        settings = Settings(url, "m1", arrivals="constant:50", tenants=names, folder=str(folder))
        Begun(settings, None, datetime.now(UTC)).write(folder)
        records = [_some_record(number, tenants) for number in range(100)]
        records += [Record("failed", at_us=number, e2e_us=9, error="http_503") for number in range(failures)]
        lines = [json.dumps(record.to_json()) + "\n" for record in records]
        (folder / RECORDS_FILE).write_text("".join(lines))
        outcome = CliRunner().invoke(load, ["report", str(folder), *arguments])
        assert (folder / "report.html").exists(), outcome.output
        return folder

    return report


def _some_record(number: int, tenants: tuple[str, ...]) -> Record:
    chance = random.Random(number)
    times = [chance.randint(20_000, 30_000) + 60_000 * (number < 20)]
    for _ in range(15):
        times.append(times[-1] + chance.choice([4_000, 5_000, 6_000] * 50 + [200_000]))
    tenant = tenants[number % len(tenants)] if tenants else ""
    return Record(
        outcome="completed",
        at_us=number * 20_000,
        e2e_us=times[-1],
        token_us=times,
        tokens=16,
        window_tokens=16,
        late_us=300,
        tenant=tenant,
    )
