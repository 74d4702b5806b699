"""Rendered files: what would change, and writing them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

from realm_reference.deploy.errors import DeployError

Rendered = Mapping[str, str]
"""Texts by path, relative to the folder that they are for."""

SECRETS = "secrets/"
"""What lies below this is for its owner's eyes only, and never shown."""


def changes(folder: Path, rendered: Rendered) -> str:
    """What writing `rendered` into `folder` would change, as a unified diff; "" when nothing."""
    found: list[str] = []
    for name, text in sorted(rendered.items()):
        old = _old(folder / name)
        if name.startswith(SECRETS):
            found += [f"{name} would be {'made' if old is None else 'changed'}\n"] if old != text else []
        else:
            found += difference(name, old, text)
    return "".join(found)


def difference(name: str, old: str | None, new: str) -> Iterator[str]:
    """The lines of a unified diff; `old` is None for what is not there yet."""
    before = name if old is not None else "/dev/null"
    return difflib.unified_diff(
        (old or "").splitlines(keepends=True), new.splitlines(keepends=True), before, name
    )


def write(folder: Path, rendered: Rendered) -> list[str]:
    """Write what differs; the names of the files written. DeployError when the folder cannot be written."""
    written = []
    try:
        for name, text in sorted(rendered.items()):
            path = folder / name
            if _old(path) != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch(mode=0o600 if name.startswith(SECRETS) else 0o644)
                path.write_text(text, "utf-8")
                written.append(name)
    except OSError as error:
        raise DeployError(f"cannot write into {folder}: {error.strerror}") from None
    return written


def _old(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except OSError:
        return None
