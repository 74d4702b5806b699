"""The guests that are checked in are those that the sources give."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import ModuleType

import pytest
from realm_abi.guests import guest_bytes


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_rebuilt_byte_for_byte(
    guest_build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "empty"))
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "guest.wasm"
    guest_build.build(version, output)
    assert output.read_bytes() == guest_bytes(version), "run wasm/guest/build.py and check the guests in"
    assert [path.name for path in tmp_path.iterdir()] == ["guest.wasm"], "a build leaves nothing else"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_no_path_is_in_a_guest(guest_build: ModuleType, version: str) -> None:
    wasm = guest_bytes(version)
    for trace in (bytes(guest_build.HERE), tempfile.gettempdir().encode(), b".c\0", b"clang", b"zig"):
        assert trace not in wasm


def test_a_variant_differs_by_a_define(guest_build: ModuleType, tmp_path: Path) -> None:
    output = tmp_path / "variant.wasm"
    guest_build.build("v2", output, defines=["GREEDY_BELOW=0.5f"])
    assert output.read_bytes() != guest_bytes("v2")
