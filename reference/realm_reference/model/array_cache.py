"""Arrays on disk that were costly to make: packed weights, mapped into memory on the next start.

A file is a SHA-256, padded to `ALIGNMENT`, and then arrays in NumPy's own format, one after the other; the
first holds the names of the rest. Each is padded, so that the numbers of every array begin at a multiple of
`ALIGNMENT`, in the file as in memory. Nothing depends on a file: one that is not there, not whole, or not
ours is made again. Processes that map the same file share its memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

log = logging.getLogger(__name__)

ALIGNMENT: Final = 64
"""Bytes of a cache line and of the widest vector register."""
MAX_FILES: Final = 8
"""Files beyond so many are removed, the one that was used longest ago first."""
_SUFFIX: Final = ".arrays"
_STALE_SECONDS: Final = 3600

ArrayTable = Mapping[str, NDArray[Any]]


class ArrayCache:
    """A folder of such files by key; keys are file names without a suffix."""

    def __init__(self, folder: Path, max_files: int = MAX_FILES) -> None:
        self._folder = folder
        self._max_files = max_files

    def load(self, key: str) -> dict[str, NDArray[Any]] | None:
        """The arrays of `key`, mapped and read-only; None if there is no such file or a bad one."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode) or not _is_ours(found):
                    raise ValueError("it is not ours alone")
                arrays = _read(file)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, SyntaxError) as error:
            log.info("made again: the cached file %s is of no use (%s)", path, error)
            return None
        with contextlib.suppress(OSError):  # a cache may be shared and not ours to write
            os.utime(path)
        return arrays

    def save(self, key: str, arrays: ArrayTable) -> bool:
        """Keep the arrays under `key`; False, with a line of log, if the disk does not allow it."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder)  # 0600
            try:
                with os.fdopen(handle, "w+b") as file:
                    _write(file, arrays)
                os.replace(name, self._path(key))
            except BaseException:
                os.unlink(name)
                raise
            self._tidy(self._path(key))
        except OSError as error:
            log.warning("%s: cannot keep what was made (%s); every start makes it", self._folder, error)
            return False
        return True

    def _path(self, key: str) -> Path:
        return self._folder / (key + _SUFFIX)

    def _tidy(self, newest: Path) -> None:
        """Remove what is too much, and what a process that was killed left half written."""
        used = {path: path.stat().st_mtime for path in self._folder.iterdir() if path.is_file()}
        kept = sorted((path for path in used if path.suffix == _SUFFIX), key=lambda path: used[path])
        unwanted = kept[: -self._max_files]
        unwanted += [
            path
            for path in used
            if path.suffix != _SUFFIX and used[path] < used.get(newest, 0) - _STALE_SECONDS
        ]
        for path in unwanted:
            path.unlink(missing_ok=True)


def aligned(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself if its numbers begin at a multiple of `ALIGNMENT` and lie side by side, or a copy."""
    if array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0:
        return array
    room = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % ALIGNMENT
    copy = room[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _is_ours(found: os.stat_result) -> bool:
    """Whether nobody but us and root may have written it; True where a system cannot tell."""
    return not hasattr(os, "geteuid") or (
        found.st_uid in (0, os.geteuid()) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _write(file: IO[bytes], arrays: ArrayTable) -> None:
    file.write(bytes(ALIGNMENT))
    for array in (np.array(list(arrays)), *arrays.values()):
        npy.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
        file.write(bytes(-file.tell() % ALIGNMENT))
    file.flush()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        digest = _digest(data)
    file.seek(0)
    file.write(digest)


def _digest(data: mmap.mmap) -> bytes:
    view = memoryview(data)
    try:
        return hashlib.sha256(view[ALIGNMENT:]).digest()
    finally:
        view.release()


def _read(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    """The arrays; raises ValueError if they are not what was written."""
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if data[: hashlib.sha256().digest_size] != _digest(data):
        raise ValueError("its content has changed")
    file.seek(ALIGNMENT)
    names = _next(file, data)
    return {str(name): _next(file, data) for name in names}


def _next(file: IO[bytes], data: mmap.mmap) -> NDArray[Any]:
    if npy.read_magic(file) != (1, 0):
        raise ValueError("its format is another one")
    shape, _, dtype = npy.read_array_header_1_0(file)
    array: NDArray[Any] = np.ndarray(shape, dtype, buffer=data, offset=file.tell())
    file.seek(array.nbytes + -array.nbytes % ALIGNMENT, os.SEEK_CUR)
    return array
