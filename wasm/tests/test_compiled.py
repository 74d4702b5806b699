"""Compiled modules on disk: found by the next process, and only where nobody else could have put them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import ModuleRejected, Runtime

WASM = guest_bytes("v2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache that has a module."""
    folder = tmp_path / "cache" / "guests"
    Runtime(compiled=folder).compile(WASM)
    return folder


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows with every compilation from wasm."""
    made: list[int] = []
    compile_module = wasmtime.Module.__init__

    def counted(self: wasmtime.Module, engine: wasmtime.Engine, wasm: bytes) -> None:
        made.append(len(wasm))
        compile_module(self, engine, wasm)

    monkeypatch.setattr(wasmtime.Module, "__init__", counted)
    return made


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_a_second_process_compiles_nothing(folder: Path, compilations: list[int]) -> None:
    module = Runtime(compiled=folder).compile(WASM)
    assert compilations == []
    assert module.version == 2
    assert "realm_forward" in module.imports


def test_folder_and_file_are_ours_alone(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert only_file(folder).stat().st_mode & 0o777 == 0o600


def opened_to_all(file: Path) -> None:
    file.chmod(0o604)


def folder_opened_to_all(file: Path) -> None:
    file.parent.chmod(0o755)


def a_link(file: Path) -> None:
    moved = file.parent.parent / "moved"
    file.rename(moved)
    file.symlink_to(moved)


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def changed(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir(mode=0o700)


@pytest.mark.parametrize(
    "spoil", [opened_to_all, folder_opened_to_all, a_link, truncated, changed, emptied, a_folder]
)
def test_what_cannot_be_trusted_is_compiled_anew(
    folder: Path, compilations: list[int], spoil: Callable[[Path], None]
) -> None:
    spoil(only_file(folder))
    assert Runtime(compiled=folder).compile(WASM).version == 2
    assert compilations == [len(WASM)]


def test_somebody_elses_is_compiled_anew(
    folder: Path, compilations: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    Runtime(compiled=folder).compile(WASM)
    assert compilations == [len(WASM)]


def test_other_settings_are_compiled_anew(folder: Path, compilations: list[int]) -> None:
    config = wasmtime.Config()
    config.epoch_interruption = False
    compiled = wasmtime.Module(wasmtime.Engine(config), WASM).serialize()
    only_file(folder).write_bytes(hashlib.sha256(compiled).digest() + compiled)
    compilations.clear()
    assert Runtime(compiled=folder).compile(WASM).version == 2
    assert compilations == [len(WASM)]


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert Runtime(compiled=tmp_path / "file" / "cache").compile(WASM).version == 2


def test_what_is_rejected_is_not_kept(tmp_path: Path) -> None:
    folder = tmp_path / "guests"
    with pytest.raises(ModuleRejected):
        Runtime(compiled=folder).compile(b"\0asm\1\0\0\0")
    assert not folder.exists()


def test_the_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realm_abi._compiled.MAX_FILES", 1)
    runtime = Runtime(compiled=tmp_path / "guests")
    runtime.compile(guest_bytes("v1"))
    old = only_file(tmp_path / "guests")
    os.utime(old, (1, 1))
    runtime.compile(WASM)
    assert only_file(tmp_path / "guests") != old
