"""`realm deploy local`: a deployment on this machine, from its file to replicas that are ready."""

from __future__ import annotations

import socket
import time
from importlib.metadata import version
from typing import Final

from realm_reference.deploy.arguments import serve_arguments
from realm_reference.deploy.deployment import Deployment
from realm_reference.deploy.environment import read_env_file
from realm_reference.deploy.errors import DeployError, NotReady
from realm_reference.deploy.files import difference
from realm_reference.deploy.local.rollout import Report, Rollout
from realm_reference.deploy.local.state import Plan, State, state_folder
from realm_reference.deploy.local.supervisor import UP, Supervisor

_POLL_SECONDS: Final = 0.1


def plan(deployment: Deployment) -> Plan:
    """What the deployment's replicas run; DeployError for what `realm serve` would refuse."""
    if deployment.env_file is not None:
        read_env_file(deployment.env_file)
    arguments = serve_arguments(
        deployment,
        model=str(deployment.model_file or deployment.model),
        listen=("--host", deployment.host),
        keys=_path(deployment.keys),
        tenants=_path(deployment.tenants),
        ledger=_path(deployment.ledger),
    )
    return Plan(
        deployment.name,
        deployment.replicas,
        (deployment.host, deployment.port),
        tuple(arguments),
        dict(deployment.env),
        _path(deployment.env_file),
        str(deployment.folder),
        version("realm-harness"),
    )


def _path(path: object) -> str | None:
    return None if path is None else str(path)


class LocalTarget:
    """One deployment on this machine."""

    def __init__(self, name: str) -> None:
        self.state = State(state_folder() / name)
        self.supervisor = Supervisor(self.state)

    def preview(self, wanted: Plan) -> str:
        """What a deployment of `wanted` would change; "" when nothing."""
        current = self.state.current()
        old = None if current is None else self.state.plan(current).text()
        if old == wanted.text() and self._up():
            return ""
        changed = "".join(difference("replicas", old, wanted.text()))
        if not self._up():
            return f"{changed}start {wanted.replicas} replicas at {_shown(wanted.address)}\n"
        return f"{changed}replace {len(self._up())} replicas by {wanted.replicas}, one at a time\n"

    def deploy(self, wanted: Plan, *, wait: bool, ready_seconds: float, report: Report) -> int:
        """Roll out `wanted` as a new revision; its number. NotReady when it was taken back."""
        self.state.create()
        with self.state.locked():
            self._check_address(wanted)
            revision = self.state.add(wanted)
            try:
                self._roll_out(revision, wait, ready_seconds, report)
            except NotReady:
                if self.state.current() is None:  # nothing ever ran, so nothing is left to hold a port for
                    self._stop()
                raise
        return revision

    def roll_back(self, *, ready_seconds: float, report: Report) -> int:
        """Roll out the revision before the current one; its number."""
        with self.state.locked():
            return self._roll_back(ready_seconds, report)

    def _roll_back(self, ready_seconds: float, report: Report) -> int:
        current = self.state.current()
        before = [number for number in self.state.revisions() if current is not None and number < current]
        if not before:
            raise DeployError(f"'{self.state.name}' has no revision to go back to")
        self._check_address(self.state.plan(before[-1]))
        self._roll_out(before[-1], True, ready_seconds, report)
        return before[-1]

    def stop(self) -> None:
        """End all replicas, as gently as they allow, and their supervisor."""
        if not self.supervisor.running():
            raise DeployError(f"'{self.state.name}' does not run here")
        with self.state.locked():
            self._stop()

    def _stop(self) -> None:
        self.supervisor.stop()
        while self.supervisor.running() or self.state.control.exists():
            time.sleep(_POLL_SECONDS)

    def _roll_out(self, revision: int, wait: bool, ready_seconds: float, report: Report) -> None:
        wanted = self.state.plan(revision)
        if not self.supervisor.running():
            self.supervisor.start(wanted.address)
        rollout = Rollout(self.state, self.supervisor, ready_seconds, report)
        if wait or self._up():  # an update always waits: that is what makes it lossless
            rollout.to(revision)
        else:
            rollout.start_only(revision)

    def _up(self) -> list[int]:
        if not self.supervisor.running():
            return []
        return [slot for slot, process in self.supervisor.processes().items() if process.state in UP]

    def _check_address(self, wanted: Plan) -> None:
        current = self.state.current()
        if self.supervisor.running():
            held = self.state.plan(current).address if current is not None else wanted.address
            if held != wanted.address:
                raise DeployError(
                    f"'{self.state.name}' runs at {_shown(held)} and cannot move to {_shown(wanted.address)} "
                    f"while it runs; `realm deploy stop {self.state.name}` first"
                )
            return
        try:
            with socket.create_server(wanted.address):
                pass
        except OSError as error:
            raise DeployError(
                f"cannot listen on {_shown(wanted.address)}: {error.strerror}; choose another 'port'"
            ) from None


def _shown(address: tuple[str, int]) -> str:
    return f"{address[0]} port {address[1]}"
