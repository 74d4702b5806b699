"""Hosts that are programs, reached over HTTP: `--host 'COMMAND with {module} and {port}'`."""

from __future__ import annotations

import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from realm_harness.answers import Answer
from realm_harness.case import Broken, Unsupported
from realm_harness.discover import TargetUnavailable, discover
from realm_harness.exchange import Ending, curl
from realm_harness.hostsuite.host import Host, HostUnavailable, MemoryWatch, Refused, Reply
from realm_harness.results import Evidence
from realm_harness.target import Target

START_SECONDS = 120.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.05
OUTPUT_CHARACTERS = 600


@dataclass(frozen=True)
class CommandLauncher:
    """Starts a program; `command` names the places of the module's file and the port."""

    command: str
    api_key: str | None = None
    model: str | None = None
    timeout: float | None = None

    @property
    def name(self) -> str:
        """The command."""
        return self.command

    def launch(self, wasm: bytes) -> Host:
        """Starts it and waits until it answers; Refused with its last words if it ends instead."""
        folder = tempfile.TemporaryDirectory(prefix="realm-host-")
        try:
            return ServedHost(self, *self._start(wasm, Path(folder.name)), folder)
        except BaseException:
            folder.cleanup()
            raise

    def _start(self, wasm: bytes, folder: Path) -> tuple[subprocess.Popen[bytes], Target]:
        module, output, port = folder / "guest.wasm", folder / "output.txt", free_port()
        module.write_bytes(wasm)
        try:
            words = [word.format(module=module, port=port) for word in shlex.split(self.command)]
            with output.open("wb") as sink:
                process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise HostUnavailable(f"the host's command does not start: {error}; check it") from None
        try:
            wait_for_port(process, port, output)
            url = f"http://127.0.0.1:{port}"
            return process, discover(url, api_key=self.api_key, model=self.model, timeout=self.timeout)
        except TargetUnavailable as error:
            stop(process)
            raise Refused(f"it started and does not answer: {error}") from None
        except BaseException:
            stop(process)
            raise


@dataclass
class ServedHost:
    """A running program. The answers are read at the socket, as the chat suite reads them."""

    launcher: CommandLauncher
    process: subprocess.Popen[bytes]
    target: Target
    folder: tempfile.TemporaryDirectory[str]

    @property
    def model(self) -> str:
        """The model that requests ask for."""
        return self.target.model

    def complete(self, prompt: str, /, **params: object) -> Reply:
        """One chat completion."""
        wanted = dict(params)
        tokens = wanted.pop("max_tokens", None)
        body = self.target.body(prompt, int(str(tokens)) if tokens is not None else None, **wanted)
        try:
            exchange = self.target.post(body)
            if exchange.status != 200:
                return Reply("", f"status {exchange.status}: {exchange.body[:OUTPUT_CHARACTERS]!r}")
            return Reply(Answer.read(exchange).text())
        except (Broken, Unsupported) as error:
            last = self.target.last
            return Reply("", str(error), hung=last is not None and last.ending is Ending.TIMEOUT)

    @contextmanager
    def watch_memory(self) -> Iterator[MemoryWatch]:
        """Watches the most memory that the program ever had resident."""
        watch = Resident(self.process.pid)
        yield watch
        watch.finish()

    def begin_case(self) -> None:
        """Forgets the wire log."""
        self.target.begin_case()

    def evidence(self) -> Evidence:
        """The wire log and the last request."""
        last = self.target.last
        again = curl(self.target.address, last.request) if last else ""
        return Evidence(str(last.ending) if last else "", again, self.target.log.entries())

    def close(self) -> None:
        """Ends the program, by its process id."""
        stop(self.process)
        self.folder.cleanup()


@dataclass
class Resident:
    """A `MemoryWatch` of a process and its children."""

    pid: int
    grown: int | None = None
    _before: int | None = field(init=False)

    def __post_init__(self) -> None:
        self._before = peak_resident(self.pid)

    def finish(self) -> None:
        """Looks again."""
        after = peak_resident(self.pid)
        if after is not None and self._before is not None:
            self.grown = after - self._before


def peak_resident(pid: int) -> int | None:
    """The most bytes that a process and its children had resident at any time, each for itself, or None."""
    total = 0
    for task in [pid, *children(pid)]:
        try:
            lines = Path(f"/proc/{task}/status").read_text("utf-8").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
    return total or None


def children(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    try:
        listed = [Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()]
    except OSError:
        return []
    found = [int(child) for child in listed[0]]
    return found + [deeper for child in found for deeper in children(child)]


def free_port() -> int:
    """A port of the loopback interface that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    """Waits until somebody listens; Refused if the program ends first, HostUnavailable if neither comes."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = output.read_text("utf-8", "replace").strip()[-OUTPUT_CHARACTERS:]
            raise Refused(said or f"it ended with status {process.returncode} and said nothing")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(POLL_SECONDS)
    raise HostUnavailable(
        f"nothing listens on port {port} after {START_SECONDS:.0f} s; does the command use {{port}}?"
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process: asked first, then made to."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
