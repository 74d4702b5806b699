"""`python -m realm_reference.deploy.local.launch FOLDER SLOT`: what supervisord runs in each slot.

It becomes (exec) the server that the slot's revision asks for, or waits for ever in the slot that holds the
socket. It imports nothing heavy, because it is gone in a moment.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import NoReturn

from realm_reference.deploy.environment import read_env_file
from realm_reference.deploy.errors import DeployError
from realm_reference.deploy.local.state import HOLDER, State

_PR_SET_PDEATHSIG = 1  # prctl(2)


def command(state: State, slot: int) -> tuple[list[str], dict[str, str], str]:
    """(command line, environment, working directory) of a slot's replica."""
    revision = state.revision_of(slot)
    if revision is None:
        raise DeployError(f"slot {slot} has no revision to run")
    plan = state.plan(revision)
    env = {**os.environ, **plan.env}
    if plan.env_file is not None:
        env |= read_env_file(Path(plan.env_file))
    own = ["--fd", "0", "--metrics-port", "0", "--ready-file", str(state.ready_file(slot))]
    return [*realm(), "serve", *plan.arguments, *own], env, plan.folder


def realm() -> list[str]:
    """The `realm` command of this installation."""
    beside = Path(sys.executable).with_name("realm")
    found = str(beside) if beside.exists() else shutil.which("realm")
    if found is None:
        raise DeployError("there is no `realm` command beside this Python; install realm-harness into it")
    return [found]


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM, to the server too that this becomes, when supervisord dies: what nobody
    supervises would only keep the port from the next supervisord.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def main(folder: str, slot: int) -> NoReturn:
    """Hold the socket, or become the replica."""
    _end_with_parent()
    if slot == HOLDER:
        while True:
            signal.pause()
    try:
        arguments, env, directory = command(State(Path(folder)), slot)
        os.chdir(directory)
        os.execve(arguments[0], arguments, env)
    except (DeployError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
