"""Compiled modules on disk: a second start loads in microseconds what the first one compiled.

What is loaded is machine code that runs outside every sandbox, so it is trusted only where nobody else could
have put it: a folder of ours that no one else may enter, plain files of ours in it that no one else may open.
Whatever is otherwise, or does not load, counts as not there; then the module is compiled as ever.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import stat
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import wasmtime

log = logging.getLogger(__name__)

MAX_FILES = 256
"""The oldest beyond so many are removed."""
DIGEST_SIZE = hashlib.sha256().digest_size


class CompiledModules:
    """A folder of compiled modules by the digests of their wasm.

    wasmtime's version and the machine are part of the names; whether the engine has the same settings is
    checked by wasmtime.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._suffix = f"-wasmtime{version('wasmtime')}-{platform.system()}-{platform.machine()}.bin".lower()

    def load(self, engine: wasmtime.Engine, digest: str) -> wasmtime.Module | None:
        """The module, or None if it is not there or not to be trusted."""
        try:
            content = self._read(digest)
            if content is None:
                return None
            return wasmtime.Module.deserialize(engine, content)
        except (OSError, wasmtime.WasmtimeError) as error:
            log.debug("%s is compiled anew: %s", digest, error)
            return None

    def save(self, digest: str, module: wasmtime.Module) -> None:
        """Keeps a module, or does not: nothing depends on it."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_private(os.lstat(self._folder), stat.S_ISDIR):
                log.debug("%s is not ours alone: no compiled module is kept there", self._folder)
                return
            compiled = bytes(module.serialize())
            handle, name = tempfile.mkstemp(dir=self._folder)  # 0600
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(compiled).digest() + compiled)
                os.replace(name, self._path(digest))
            except BaseException:
                os.unlink(name)
                raise
            self._forget_oldest()
        except (OSError, wasmtime.WasmtimeError) as error:
            log.debug("%s is not kept: %s", digest, error)

    def _path(self, digest: str) -> Path:
        return self._folder / (digest + self._suffix)

    def _read(self, digest: str) -> bytes | None:
        """The compiled bytes, if all of them are there and they are ours."""
        if not _is_private(os.lstat(self._folder), stat.S_ISDIR):
            return None
        with open(os.open(self._path(digest), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            if not _is_private(os.fstat(file.fileno()), stat.S_ISREG):
                return None
            content = file.read()
        compiled = content[DIGEST_SIZE:]
        return compiled if hashlib.sha256(compiled).digest() == content[:DIGEST_SIZE] else None

    def _forget_oldest(self) -> None:
        files = sorted(self._folder.glob("*.bin"), key=lambda path: path.stat().st_mtime)
        for path in files[:-MAX_FILES]:
            path.unlink(missing_ok=True)


def _is_private(found: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    """Whether a file is of that kind, ours, and closed to all others; False where a system cannot tell."""
    if not hasattr(os, "geteuid"):
        return False
    return is_kind(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
