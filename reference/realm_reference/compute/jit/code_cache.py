"""Where Numba keeps the machine code of the kernels, so that a second start does not compile them again.

What is loaded from there is run, so it is trusted only in a folder of ours that nobody else may enter.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import pickle
import shutil
import stat
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from llvmlite import binding
from numba import config as numba_config

log = logging.getLogger(__name__)
_config: Any = numba_config  # its settings are made at run time

MAX_FOLDERS: Final = 4
"""The code of so many versions or processors is kept, that which was used longest ago goes first."""


def keep_code_below(folder: Path) -> Path:
    """Make Numba use a folder below `folder`; to be called before the first kernel's module is imported.

    The folder's name changes with all sources of this package, with Numba and with the processor: Numba
    itself looks at the source of the function that is called only, not at what is compiled into it. Where
    no private folder can be had, a temporary one serves this process. Answers the folder.
    """
    own = folder / _name()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        own.mkdir(mode=0o700, exist_ok=True)
        if not _is_private(folder) or not _is_private(own):
            raise PermissionError(f"{folder} is not ours alone")
        os.utime(own)
        _forget_oldest(folder)
        _drop_broken(own)
        if not any(own.iterdir()):
            log.warning("compiling the kernels for this processor; later starts find them in %s", own)
    except OSError as error:
        log.warning("compiled code cannot be kept (%s); every start compiles it", error)
        own = Path(tempfile.mkdtemp(prefix="realm-code-"))
        atexit.register(shutil.rmtree, own, ignore_errors=True)
    _config.CACHE_DIR = str(own)
    return own


def _name() -> str:
    told = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        told.update(path.read_bytes())
    processor = _config.CPU_NAME or binding.get_host_cpu_name()
    features = _config.CPU_FEATURES or binding.get_host_cpu_features().flatten()
    for part in (version("numba"), version("llvmlite"), processor, features):
        told.update(f"\n{part}".encode())
    return told.hexdigest()[:32]


def _drop_broken(folder: Path) -> None:
    """Empty a folder that has a file which Numba would fail on: it does not expect one to be damaged."""
    files = [path for path in folder.rglob("*") if path.suffix in (".nbi", ".nbc")]
    try:
        for path in files:
            with path.open("rb") as file:
                pickle.load(file)  # of an index, Numba's version; of code, all there is
                rest = file.read()
            if rest:
                pickle.loads(rest)
    except Exception as error:  # whatever a damaged pickle can raise
        log.warning("compiled again: what %s holds is damaged (%s)", folder, type(error).__name__)
        shutil.rmtree(folder)
        folder.mkdir(mode=0o700)


def _is_private(folder: Path) -> bool:
    """Whether it is a folder of ours, closed to others; True where a system cannot tell."""
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        return False
    return not hasattr(os, "geteuid") or (found.st_uid == os.geteuid() and not found.st_mode & 0o077)


def _forget_oldest(folder: Path) -> None:
    used = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    for path in used[:-MAX_FOLDERS]:
        shutil.rmtree(path, ignore_errors=True)
