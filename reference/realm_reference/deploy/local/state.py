"""What a local deployment keeps on disk: its revisions, and which of them each slot runs."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from platformdirs import user_state_path

from realm_reference.deploy.errors import DeployError

HOLDER: Final = 0
"""The slot whose process holds the socket and does nothing else."""
SLOTS: Final = range(1, 65)
"""The slots of replicas; twice as many as replicas, so that there are always free ones to update into."""
REVISIONS_KEPT: Final = 10
_SOCKET_PATH_BYTES: Final = 100  # the kernel's limit is 108, and supervisord adds its pid while it binds


@dataclass(frozen=True)
class Plan:
    """One revision: what its replicas run, and how many of them there are.

    Attributes:
        name: of the deployment.
        replicas: how many.
        address: (host, port) of the shared socket.
        arguments: of `realm serve`, without those that differ from slot to slot.
        env: variables on top of supervisord's own.
        env_file: a file of more of them, read when a replica starts, or None.
        folder: the replicas' working directory.
        version: of the server; another one is another revision.
    """

    name: str
    replicas: int
    address: tuple[str, int]
    arguments: tuple[str, ...]
    env: dict[str, str]
    env_file: str | None
    folder: str
    version: str

    def text(self) -> str:
        """As it is kept, and as a diff shows it."""
        return json.dumps(vars(self), indent=2, default=list) + "\n"

    @classmethod
    def parse(cls, text: str) -> Plan:
        """What `text` made."""
        content: dict[str, Any] = json.loads(text)
        host, port = content.pop("address")
        return cls(**{**content, "address": (host, port), "arguments": tuple(content["arguments"])})


def state_folder() -> Path:
    """Where all local deployments are kept: REALM_STATE, or the user's state folder."""
    given = os.environ.get("REALM_STATE")
    return (Path(given) if given else user_state_path("realm")) / "deployments"


def deployments(folder: Path | None = None) -> list[State]:
    """All local deployments, by name."""
    root = folder or state_folder()
    return [State(path) for path in sorted(root.iterdir())] if root.is_dir() else []


class State:
    """The folder of one deployment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.name = folder.name
        self.control = self.folder / "control"
        self.logs = self.folder / "logs"
        if len(os.fsencode(self.control)) > _SOCKET_PATH_BYTES:
            raise DeployError(
                f"the path {self.control} is too long for a socket; set REALM_STATE to a shorter one"
            )

    def create(self) -> None:
        """Make the folder; only its owner may look into it."""
        try:
            for path in (self.folder, self.logs, self.folder / "revisions", self.folder / "slots"):
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise DeployError(f"cannot make {self.folder}: {error.strerror}") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one command at a time changes a deployment; DeployError for a second one."""
        if not self.folder.is_dir():
            raise DeployError(
                f"there is no deployment '{self.name}' here; `realm status` lists those that are"
            )
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DeployError(f"another command is changing '{self.name}'; wait for its end") from None
            yield

    # Revisions

    def revisions(self) -> list[int]:
        """The numbers of those that are kept, oldest first."""
        found = (self.folder / "revisions").glob("*.json")
        return sorted(int(path.stem) for path in found)

    def plan(self, revision: int) -> Plan:
        """What a revision runs."""
        return Plan.parse(self._revision(revision).read_text("utf-8"))

    def add(self, plan: Plan) -> int:
        """Keep a new revision; its number. Old ones that no slot runs are forgotten in time."""
        known = self.revisions()
        number = (known[-1] if known else 0) + 1
        _write(self._revision(number), plan.text())
        in_use = {self.revision_of(slot) for slot in SLOTS} | {self.current()}
        for old in known[:-REVISIONS_KEPT]:
            if old not in in_use:
                self._revision(old).unlink()
        return number

    def current(self) -> int | None:
        """The revision that was last rolled out to its end."""
        return _number(self.folder / "current")

    def set_current(self, revision: int) -> None:
        """A revision has been rolled out."""
        _write(self.folder / "current", f"{revision}\n")

    # Slots

    def revision_of(self, slot: int) -> int | None:
        """What a slot is to run; None for a free one."""
        return _number(self._slot(slot, "revision"))

    def assign(self, slot: int, revision: int) -> None:
        """Have a slot run a revision when it is next started."""
        self.ready_file(slot).unlink(missing_ok=True)
        _write(self._slot(slot, "revision"), f"{revision}\n")

    def release(self, slot: int) -> None:
        """A slot runs nothing any more, and is not meant to."""
        for name in ("revision", "ready.json"):
            self._slot(slot, name).unlink(missing_ok=True)

    def ready_file(self, slot: int) -> Path:
        """The file in which the replica of a slot says where its operations are."""
        return self._slot(slot, "ready.json")

    def log_file(self, slot: int) -> Path:
        """The log of a slot; older parts are beside it as .1, .2, ..."""
        return self.logs / f"replica-{slot:02}.log"

    def remove(self) -> None:
        """Forget the deployment."""
        shutil.rmtree(self.folder)

    def _revision(self, number: int) -> Path:
        return self.folder / "revisions" / f"{number}.json"

    def _slot(self, slot: int, name: str) -> Path:
        return self.folder / "slots" / f"{slot:02}.{name}"


def _write(path: Path, text: str) -> None:
    """Whole or not at all: a crash in between leaves the old content."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, "utf-8")
    partial.replace(path)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None
