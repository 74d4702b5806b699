"""Files of environment variables: one NAME=value a line, as Docker, systemd and Kustomize read them."""

from __future__ import annotations

import re
from pathlib import Path

from realm_reference.deploy.errors import DeployError

_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")


def read_env_file(path: Path) -> dict[str, str]:
    """The variables of a file; DeployError names the line that is none. The values are in no message."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise DeployError(f"{path} cannot be read: {error.strerror}") from None
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = _LINE.fullmatch(line.strip())
        if parts is None:
            raise DeployError(f"{path}, line {number} is not NAME=value")
        found[parts[1]] = parts[2]
    return found
