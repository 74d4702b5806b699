"""The life of a `realm serve` process under its signals, and on a socket that it was given."""

from __future__ import annotations

import http.client
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from realm_reference.commands import keys
from realm_reference.model.model import Model

WRITER = runpy.run_path(str(Path(__file__).with_name("adapter_writer.py")))
COMMAND = [sys.executable, "-c", "from realm_reference.commands import serve; serve()"]
SECONDS = 60.0


def wait_for(condition: Callable[[], bool], process: Process | None = None) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert process is None or process.popen.poll() is None, "the server has ended"
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Connection(http.client.HTTPConnection):
    """Closes its answers with itself, also those that took over its socket."""

    answers: tuple[http.client.HTTPResponse, ...] = ()

    def getresponse(self) -> http.client.HTTPResponse:
        answer = super().getresponse()
        self.answers = (*self.answers, answer)
        return answer

    def close(self) -> None:
        super().close()
        for answer in self.answers:
            answer.close()


class Process:
    """A server in a process of its own; `host` and `port` are where its API is."""

    def __init__(self, stack: ExitStack, folder: Path, model: Path, *arguments: str, **options: Any) -> None:
        self._stack = stack
        self._ready = folder / f"ready-{len(list(folder.iterdir()))}.json"
        self._log = self._ready.with_suffix(".log")
        flags = ["--http", "--model", str(model), "--ready-file", str(self._ready), "--log-format", "json"]
        with self._log.open("wb") as log:
            self.popen = subprocess.Popen([*COMMAND, *flags, *arguments], stderr=log, **options)

    def wait_until_ready(self) -> None:
        wait_for(self._ready.exists, self)
        self.ready = json.loads(self._ready.read_text("utf-8"))
        assert self.ready["pid"] == self.popen.pid
        self.host, port = self.ready["url"].removeprefix("http://").split(":")
        self.port = int(port)

    def connect(self) -> Connection:
        connection = Connection(self.host, self.port, timeout=SECONDS)
        self._stack.callback(connection.close)
        return connection

    def logged(self, message: str) -> list[dict[str, Any]]:
        lines = map(json.loads, self._log.read_text("utf-8").splitlines())
        return [line for line in lines if line["message"] == message]

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def ended(self) -> int:
        return self.popen.wait(SECONDS)


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path, tiny_gguf: Path) -> Iterator[Start]:
    """Starts servers that are ended with the test."""
    with ExitStack() as stack:

        def started(*arguments: str, **options: Any) -> Process:
            process = Process(stack, tmp_path, tiny_gguf, *arguments, **options)
            stack.callback(process.popen.wait, SECONDS)
            stack.callback(process.popen.kill)
            return process

        yield started


def chat(
    connection: http.client.HTTPConnection, max_tokens: int = 3, **more: Any
) -> http.client.HTTPResponse:
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": max_tokens,
        **more,
    }
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    return connection.getresponse()


def stream(connection: Connection) -> http.client.HTTPResponse:
    """The beginning of an answer that takes long."""
    response = chat(connection, 600, stream=True, temperature=2, seed=1)
    assert response.status == 200
    assert response.readline().startswith(b"data: ")
    return response


def test_while_it_drains_a_new_request_is_refused_and_the_running_one_ends(start: Start) -> None:
    process = start("--http-port", "0")
    process.wait_until_ready()
    running, new = process.connect(), process.connect()
    chat(new).read()
    answer = stream(running)
    process.signal(signal.SIGTERM)
    wait_for(lambda: bool(process.logged("draining")))
    refused = chat(new)
    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert json.load(refused)["error"]["code"] == "overloaded"
    assert b"data: [DONE]" in answer.read()
    assert process.ended() == 0


def test_past_the_drain_deadline_the_running_one_is_told(start: Start) -> None:
    process = start("--http-port", "0", "--drain-timeout", "0")
    process.wait_until_ready()
    answer = stream(process.connect())
    process.signal(signal.SIGTERM)
    rest = answer.read()
    assert b"[DONE]" not in rest
    assert b'"code": "overloaded"' in rest.replace(b'":"', b'": "')
    assert process.ended() == 0


def test_a_second_signal_cuts_the_drain_short(start: Start) -> None:
    process = start("--http-port", "0", "--drain-timeout", "3600", "--drain-grace", "3600")
    process.wait_until_ready()
    answer = stream(process.connect())
    process.signal(signal.SIGTERM)
    wait_for(lambda: bool(process.logged("draining")))
    process.signal(signal.SIGTERM)
    answer.read()
    assert process.ended() == 0


def test_in_the_grace_period_it_serves_on_and_asks_to_be_left(start: Start) -> None:
    process = start("--http-port", "0", "--drain-grace", "3600")
    process.wait_until_ready()
    kept = process.connect()
    assert chat(kept).read()
    process.signal(signal.SIGTERM)
    wait_for(lambda: bool(process.logged("draining")))
    answer = chat(kept)
    assert answer.status == 200
    assert answer.headers["Connection"] == "close"
    answer.read()
    probe = process.connect()
    probe.request("GET", "/ready")
    not_ready = probe.getresponse()
    assert not_ready.status == 503
    assert json.load(not_ready)["reason"] == "draining"
    process.signal(signal.SIGTERM)
    assert process.ended() == 0


def test_two_servers_on_one_socket_lose_nothing_when_one_goes(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as shared:
        descriptor = shared.fileno()
        flags = "--fd", str(descriptor), "--metrics-port", "0", "--drain-grace", "3600"
        first, second = (start(*flags, pass_fds=[descriptor]) for _ in range(2))
        first.wait_until_ready()
        second.wait_until_ready()
        assert first.ready["url"] == second.ready["url"]
        assert first.ready["operations_url"] != second.ready["operations_url"]
        first.signal(signal.SIGTERM)
        for _ in range(20):
            answer = chat(second.connect())
            assert answer.status == 200
            answer.read()
        assert first.ended() == 0, "it is done when its connections are, however long the grace"
    assert second.popen.poll() is None
    assert len(first.logged("request")) + len(second.logged("request")) == 20


def test_what_waits_in_the_shared_queue_outlives_a_server(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as shared:
        first = start("--fd", "0", stdin=shared)
        first.wait_until_ready()
        os.kill(first.popen.pid, signal.SIGSTOP)
        early = first.connect()
        early.connect()  # into the queue, from which nobody takes it
        first.popen.kill()
        first.ended()
        second = start("--fd", "0", stdin=shared)
        assert chat(early).status == 200
        assert second.popen.poll() is None


def test_sighup_does_not_end_it(start: Start) -> None:
    process = start("--http-port", "0")
    wait_for(lambda: bool(process.logged("loading")), process)
    process.signal(signal.SIGHUP)  # before there is anything to reload
    process.wait_until_ready()
    process.signal(signal.SIGHUP)
    wait_for(lambda: bool(process.logged("reloaded")), process)
    assert chat(process.connect()).status == 200


def test_sighup_reads_the_keys_again(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"

    def manage(*arguments: str) -> str:
        done = CliRunner().invoke(keys, [*arguments, "--api-keys", str(file)])
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    secret = manage("generate", "--tenant", "alice")
    process = start("--http-port", "0", "--auth", "--api-keys", str(file))
    process.wait_until_ready()
    connection = process.connect()

    def status() -> int:
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {secret}"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    assert status() == 200
    good = file.read_text("utf-8")
    file.write_text("no keys", "utf-8")
    process.signal(signal.SIGHUP)
    wait_for(lambda: bool(process.logged("not reloaded")), process)
    assert status() == 200, "a file that cannot be read changes nothing"
    file.write_text(good, "utf-8")
    manage("disable", "--tenant", "alice")
    process.signal(signal.SIGHUP)
    wait_for(lambda: status() == 401, process)


def test_sighup_reads_the_adapters_again(start: Start, tmp_path: Path, tiny_model: Model) -> None:
    def write(name: str, seed: int) -> str:
        return str(WRITER["write_peft"](folder / name, WRITER["draw"](tiny_model.config, seed)))

    folder, tenants = tmp_path / "adapters", tmp_path / "tenants.toml"
    alone = write("../alone", 1)
    write("fr", 2)
    tenants.write_text("")
    given = ("--adapter", f"one={alone}", "--adapters", str(folder), "--tenants", str(tenants))
    process = start("--http-port", "0", *given)
    process.wait_until_ready()
    connection = process.connect()

    def names() -> list[str]:
        connection.request("GET", "/v1/models")
        return [card["id"] for card in json.loads(connection.getresponse().read())["data"]]

    def said(model: str) -> str:
        answer = json.loads(chat(connection, 8, model=model, temperature=0).read())
        return str(answer["choices"][0]["message"]["content"])

    assert names() == ["tiny", "tiny:one", "tiny:fr"]
    before = said("tiny:fr")
    write("de", 2)
    write("fr", 3)
    process.signal(signal.SIGHUP)
    wait_for(lambda: names() == ["tiny", "tiny:one", "tiny:fr", "tiny:de"], process)
    assert said("tiny:de") == before != said("tiny:fr")
    (folder / "fr" / "adapter_config.json").write_text("no JSON")
    process.signal(signal.SIGHUP)
    wait_for(lambda: bool(process.logged("not reloaded")), process)
    assert len(names()) == 4, "an adapter that cannot be read changes nothing"
    shutil.rmtree(folder / "fr")
    tenants.write_text('[tenants.alice]\nadapter = "de"\n')
    process.signal(signal.SIGHUP)
    wait_for(lambda: names() == ["tiny", "tiny:one"], process)
    assert chat(connection, model="tiny:de").status == 403


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--fd", "0"), "--fd: file descriptor 0 is not an open socket"),
        (("--fd", "987"), "--fd: file descriptor 987 is not an open socket"),
        (("--fd", "0", "--http-port", "0"), "leave out --http-port"),
        (("--http-port", "0", "--log-level", "loud"), "--log-level"),
    ],
)
def test_what_cannot_start_says_why(
    tmp_path: Path, tiny_gguf: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = subprocess.run(
        [*COMMAND, "--http", "--model", str(tiny_gguf), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]


def test_a_socket_that_does_not_listen_is_refused(tiny_gguf: Path) -> None:
    with socket.socket() as idle:
        done = subprocess.run(
            [*COMMAND, "--http", "--model", str(tiny_gguf), "--fd", "0"],
            stdin=idle.fileno(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    assert done.returncode == 2
    assert "not one that listens" in done.stderr
