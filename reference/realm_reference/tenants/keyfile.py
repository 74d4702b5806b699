"""Changes of a key file while servers read it: one at a time, each whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from realm_reference.tenants.keys import ApiKey, KeyFileError, dump_keys, load_keys

Keys = tuple[ApiKey, ...]


def change(path: Path, how: Callable[[Keys], Keys], *, create: bool = False) -> None:
    """Replace the keys in `path` by `how` of them. Keys written by hand become digests with it.

    KeyFileError if the file cannot be read or written; what `how` raises leaves it as it was.
    """
    try:
        with _locked(path):
            keys = () if create and not path.exists() else load_keys(path)
            _replace(path, dump_keys(how(keys)))
    except OSError as error:
        raise KeyFileError(f"cannot write the key file {path}: {error.strerror}") from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    # A file beside it: the key file itself is replaced, and a lock on it would stay with the old one.
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    # Who may read it stays as it was; a new one is its owner's alone.
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
