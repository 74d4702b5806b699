"""supervisord for one deployment: its configuration, its start, and what it is asked over its socket."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final

from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from realm_reference.deploy.errors import DeployError
from realm_reference.deploy.local.state import HOLDER, SLOTS, State

GROUP: Final = "replica"
UP: Final = ("STARTING", "RUNNING", "BACKOFF", "STOPPING")
"""States of a slot that is in use."""
ENDED: Final = ("BACKOFF", "EXITED", "FATAL", "UNKNOWN")
"""States of a slot whose replica has ended by itself."""
_START_SECONDS: Final = 30.0
# A replica keeps its own deadlines; supervisord's must never be the shorter one.
_STOP_SECONDS: Final = 2 * 3600 + 60

_CONFIGURATION = """\
; Written by `realm deploy local`; changes are lost.
[supervisord]
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}/logs
umask=077

[unix_http_server]
file={folder}/control
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[fcgi-program:{group}]
socket=tcp://{host}:{port}
socket_backlog=1024
process_name=%(process_num)02d
numprocs={processes}
command={command} %(process_num)d
autostart=false
autorestart=true
startsecs=5
startretries=5
stopsignal=TERM
stopwaitsecs={stop_seconds}
stdout_logfile=NONE
stderr_logfile={folder}/logs/replica-%(process_num)02d.log
stderr_logfile_maxbytes=50MB
stderr_logfile_backups=5
"""


@dataclass(frozen=True)
class Process:
    """What supervisord knows of a slot: its state, its pid (0 for none), the Unix time of its start."""

    slot: int
    state: str
    pid: int
    started: int
    message: str


def configuration(state: State, address: tuple[str, int]) -> str:
    """supervisord.conf of a deployment; it depends on nothing that a revision may change."""
    folder = str(state.folder)
    command = [sys.executable, "-m", "realm_reference.deploy.local.launch", folder]
    return _CONFIGURATION.format(
        folder=_literal(folder),
        group=GROUP,
        host=address[0],
        port=address[1],
        processes=len(SLOTS) + 1,
        command=_literal(shlex.join(command)),
        stop_seconds=_STOP_SECONDS,
    )


def _literal(text: str) -> str:
    """supervisord expands %(...)s and takes what follows a ; for a comment."""
    if ";" in text or "\n" in text:
        raise DeployError(f"supervisord cannot work in a folder with such a name: {text!r}; set REALM_STATE")
    return text.replace("%", "%%")


class Supervisor:
    """The supervisord of one deployment, running or not."""

    def __init__(self, state: State) -> None:
        self._state = state

    def running(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (DeployError, xmlrpc.client.Error):
            return False

    def start(self, address: tuple[str, int]) -> None:
        """Start it, and the holder of the socket at `address`."""
        path = self._state.folder / "supervisord.conf"
        path.write_text(configuration(self._state, address), "utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_START_SECONDS,
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
            raise DeployError(f"supervisord does not start: {said[-1]}")
        deadline = time.monotonic() + _START_SECONDS
        while not self.running():
            if time.monotonic() > deadline:
                raise DeployError(f"supervisord does not answer; see {self._state.folder}/supervisord.log")
            time.sleep(0.05)
        self.start_slot(HOLDER)

    def stop(self) -> None:
        """Stop all replicas, as gently as they allow, and supervisord."""
        self._call("shutdown")

    def processes(self) -> Mapping[int, Process]:
        """All slots of replicas that are or were in use, by number."""
        infos: list[dict[str, Any]] = self._call("getAllProcessInfo")
        found = [
            Process(int(i["name"]), str(i["statename"]), int(i["pid"]), int(i["start"]), str(i["spawnerr"]))
            for i in infos
        ]
        return {process.slot: process for process in found if process.slot in SLOTS}

    def start_slot(self, slot: int) -> None:
        """Start what the slot is to run; returns at once."""
        self._call("startProcess", f"{GROUP}:{slot:02}", False)

    def stop_slot(self, slot: int) -> None:
        """Ask the replica of a slot to end; returns at once. Nothing happens when it has ended already."""
        try:
            self._call("stopProcess", f"{GROUP}:{slot:02}", False)
        except xmlrpc.client.Fault as fault:
            if "NOT_RUNNING" not in fault.faultString:
                raise

    def hurry_slot(self, slot: int) -> None:
        """Ask it once more, which ends its drain."""
        self._call("signalProcess", f"{GROUP}:{slot:02}", "TERM")

    def _call(self, name: str, *arguments: object) -> Any:
        # A connection that could not be made spoils its transport, so each call has one of its own. The URL
        # is never used: the transport goes over the deployment's socket.
        transport = SupervisorTransport(serverurl=f"unix://{self._state.control}")
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
                return getattr(server.supervisor, name)(*arguments)
        except (OSError, HTTPException) as error:
            raise DeployError(f"supervisord of '{self._state.name}' does not answer: {error}") from None
