"""The probes that are checked in are those that the sources give, and can call all of the contract."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from realm_abi.contract import load_contract
from realm_abi.guests import probe_bytes
from realm_abi.sandbox import Runtime

BUILD = Path(__file__).parents[1] / "probes" / "build.py"


@pytest.fixture(scope="module")
def probe_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("realm_probe_build", BUILD)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("version", load_contract().versions)
def test_rebuilt_byte_for_byte(probe_build: ModuleType, tmp_path: Path, version: int) -> None:
    output = tmp_path / "probe.wasm"
    probe_build.build(version, output)
    assert output.read_bytes() == probe_bytes(version), "run wasm/probes/build.py and check the probes in"


@pytest.mark.parametrize("version", load_contract().versions)
def test_a_probe_imports_all_of_its_version(version: int) -> None:
    module = Runtime().compile(probe_bytes(version))
    assert module.version == version
    assert set(module.imports) == {function.name for function in load_contract().imports_of(version)}


def test_there_is_no_other_probe() -> None:
    with pytest.raises(ValueError, match="3"):
        probe_bytes(3)
