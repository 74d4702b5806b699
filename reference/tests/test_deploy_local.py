"""Local deployments as processes: first start, update under load, failed update, crash, logs, end."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from realm_reference.commands import deploy, logs, status

SECONDS = 60.0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Deployed:
    """A deployment file that is deployed here, and the commands about it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.file = folder / "chat.yaml"
        self.folder = folder
        self.settings: dict[str, Any] = {
            "name": "chat",
            "model": str(model),
            "replicas": 2,
            "port": free_port(),
            "drain-grace": 1,
            "drain-timeout": 20,
        }

    def deploy(self, *arguments: str, **changes: Any) -> Result:
        self.settings |= {name.replace("_", "-"): value for name, value in changes.items()}
        self.file.write_text(json.dumps(self.settings), "utf-8")  # which is YAML
        return CliRunner().invoke(deploy, ["local", str(self.file), *arguments])

    def status(self) -> list[dict[str, Any]]:
        said = json.loads(CliRunner().invoke(status, ["chat", "--json"]).stdout)
        assert said["ready"] == all(server["ready"] for server in said["servers"])
        servers: list[dict[str, Any]] = said["servers"]
        return servers

    def ready_on(self, revision: int, replicas: int = 2) -> bool:
        found = [(server["ready"], server["revision"]) for server in self.status()]
        return found == [(True, revision)] * replicas

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.settings["port"], timeout=SECONDS)

    def ask_once(self, request_id: str = "") -> None:
        with closing(self.connect()) as connection:
            self.ask(connection, request_id)

    def ask(self, connection: http.client.HTTPConnection, request_id: str = "", **more: Any) -> bytes:
        """The body of an answer, which has to be a 200."""
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, **more}
        headers = {"Content-Type": "application/json", **({"x-request-id": request_id} if request_id else {})}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, (response.status, answer)
        return answer

    def end(self) -> None:
        CliRunner().invoke(deploy, ["stop", "chat"])
        with suppress(OSError, ValueError):
            os.kill(int((self.folder / "s/deployments/chat/supervisord.pid").read_text()), signal.SIGKILL)


@pytest.fixture
def deployed(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    """A deployment that is ended with the test; in a folder of a short name, because it holds a socket."""
    folder = Path(tempfile.mkdtemp(prefix="realm-"))
    monkeypatch.setenv("REALM_STATE", str(folder / "s"))
    made = Deployed(folder, tiny_gguf)
    yield made
    made.end()
    shutil.rmtree(folder)


class Load:
    """Clients that ask all the time, each in its own way, until told to stop."""

    def __init__(self, deployed: Deployed) -> None:
        self._deployed = deployed
        self._over = threading.Event()
        self.answered = 0
        self.failures: list[str] = []
        ways = [self._kept_alive, self._kept_alive, self._connecting, self._connecting, self._streaming]
        self._threads = [threading.Thread(target=self._client, args=(way,)) for way in ways]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_for(lambda: self.answered >= 10)
        return self

    def __exit__(self, *_: object) -> None:
        before = self.answered
        wait_for(lambda: self.answered >= before + 10 or bool(self.failures))
        self._over.set()
        for thread in self._threads:
            thread.join(SECONDS)

    def _client(self, way: Callable[[http.client.HTTPConnection], None]) -> None:
        connection = self._deployed.connect()
        while not self._over.is_set():
            try:
                way(connection)
                self.answered += 1
            except (AssertionError, OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
        connection.close()

    def _kept_alive(self, connection: http.client.HTTPConnection) -> None:
        self._deployed.ask(connection)

    def _connecting(self, connection: http.client.HTTPConnection) -> None:
        self._deployed.ask(connection)
        connection.close()

    def _streaming(self, connection: http.client.HTTPConnection) -> None:
        assert b"data: [DONE]" in self._deployed.ask(connection, stream=True, max_tokens=60)


def test_an_update_and_a_failed_one_under_load_lose_no_request(deployed: Deployed) -> None:
    done = deployed.deploy()
    assert done.exit_code == 0, done.output
    assert deployed.ready_on(1)
    with Load(deployed) as load:
        done = deployed.deploy()
        assert "nothing has changed" in done.output
        done = deployed.deploy("--dry-run", env={"REALM_NOTE": "2"}, replicas=3)
        assert '+    "REALM_NOTE": "2"' in done.output
        assert "replace 2 replicas by 3, one at a time" in done.output
        assert deployed.ready_on(1)
        done = deployed.deploy(env={"REALM_NOTE": "2"}, replicas=3)
        assert done.exit_code == 0, done.output
        assert deployed.ready_on(2, replicas=3)
        done = CliRunner().invoke(deploy, ["rollback", "chat"])
        assert done.exit_code == 0, done.output
        assert deployed.ready_on(1)
        (deployed.folder / "broken.gguf").write_bytes(b"GGUF")
        done = deployed.deploy(model="broken.gguf")
        assert done.exit_code == 1, done.output
        assert "broken.gguf" in done.output.splitlines()[-1]
        assert deployed.ready_on(1)
    assert load.failures == []
    assert load.answered > 30


def test_a_first_deployment_that_fails_leaves_nothing_behind(deployed: Deployed) -> None:
    done = deployed.deploy(env={"REALM_SERVE_WASM": "nowhere.wasm"}, replicas=1)
    assert done.exit_code == 1, done.output
    assert done.output.splitlines()[-1].startswith("Error: replica 01 ended: ")
    assert "nowhere.wasm" in done.output
    assert CliRunner().invoke(status, ["chat"]).exit_code == 1
    with socket.create_server(("127.0.0.1", deployed.settings["port"])):
        done = deployed.deploy(env={})
        assert done.exit_code == 2
        assert "choose another 'port'" in done.output.splitlines()[-1]
    done = deployed.deploy("--no-wait")
    assert done.exit_code == 0, done.output
    wait_for(lambda: bool(deployed.status()) and all(server["ready"] for server in deployed.status()))
    done = deployed.deploy(port=free_port())
    assert done.exit_code == 2
    assert "cannot move" in done.output


def test_a_crash_is_mended_and_a_connection_waits_for_it(deployed: Deployed) -> None:
    assert deployed.deploy(replicas=1).exit_code == 0
    (before,) = deployed.status()
    os.kill(before["pid"], signal.SIGKILL)
    deployed.ask_once()  # the only replica is dead or dying: this waits in the shared queue
    wait_for(lambda: deployed.ready_on(1, replicas=1))
    (after,) = deployed.status()
    assert after["pid"] != before["pid"]
    os.kill(after["pid"], signal.SIGTERM)  # by somebody else than the supervisor
    wait_for(lambda: deployed.ready_on(1, replicas=1) and deployed.status()[0]["pid"] != after["pid"])
    table = CliRunner().invoke(status, [])
    assert table.exit_code == 0
    assert table.output.splitlines()[0].split()[:4] == ["DEPLOYMENT", "REPLICA", "PROCESS", "PID"]
    by_url = CliRunner().invoke(status, [f"http://127.0.0.1:{deployed.settings['port']}"])
    assert by_url.exit_code == 0, by_url.output
    assert "tiny" in by_url.output


def test_replicas_end_with_their_supervisor(deployed: Deployed) -> None:
    assert deployed.deploy(replicas=1).exit_code == 0
    (replica,) = deployed.status()
    pid_file = deployed.folder / "s/deployments/chat/supervisord.pid"
    os.kill(int(pid_file.read_text("ascii")), signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{replica['pid']}").exists())
    (missing,) = deployed.status()
    assert (missing["ready"], missing["reason"]) == (False, "supervisord does not run")
    done = deployed.deploy()
    assert done.exit_code == 0, done.output
    assert deployed.ready_on(2, replicas=1)


def test_logs_are_chosen_from_and_followed(deployed: Deployed) -> None:
    assert deployed.deploy(replicas=1).exit_code == 0
    command = "from realm_reference.commands import logs; logs()"
    arguments = ["chat", "--follow", "--request", "req-followed"]
    with subprocess.Popen(
        [sys.executable, "-u", "-c", command, *arguments], stdout=subprocess.PIPE, text=True
    ) as follower:
        try:
            for number in range(6):
                deployed.ask_once(f"req-{number}")
            deployed.ask_once("req-followed")
            assert follower.stdout is not None
            assert "request_id=req-followed" in follower.stdout.readline()
        finally:
            follower.terminate()
    shown = CliRunner().invoke(logs, ["--request", "req-3", "--json"])
    (line,) = [json.loads(line) for line in shown.output.splitlines()]
    assert (line["status"], line["route"], line["tenant"]) == (200, "/v1/chat/completions", "default")
    assert line["replica"] == "01"
    by_tenant = CliRunner().invoke(logs, ["chat", "--tenant", "default", "--json"]).output.splitlines()
    assert {f"req-{number}" for number in range(6)} <= {json.loads(line)["request_id"] for line in by_tenant}
    times = [json.loads(line)["time"] for line in by_tenant]
    assert times == sorted(times)
    assert CliRunner().invoke(logs, ["--replica", "2", "--level", "error"]).output == ""


def test_wrong_names_are_told_in_one_line(deployed: Deployed) -> None:
    for command, arguments in (
        (deploy, ["rollback", "nobody"]),
        (deploy, ["stop", "nobody"]),
        (status, ["nobody"]),
        (logs, ["nobody"]),
        (logs, []),
        (logs, ["nobody", "--since", "yesterday"]),
    ):
        done = CliRunner().invoke(command, arguments)
        assert done.exit_code == 2, done.output
        assert len(done.output.splitlines()) == 1
    empty = CliRunner().invoke(status, [])
    assert (empty.exit_code, empty.output) == (1, "Nothing is deployed here.\n")
