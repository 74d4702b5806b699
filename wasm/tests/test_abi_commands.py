"""`realm abi`: what it prints, what it finds in modules, and one line with exit code 2 for what is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import wasmtime
from click.testing import CliRunner, Result
from realm_abi.commands import abi
from realm_abi.contract import load_contract
from realm_abi.generate import GENERATED
from realm_abi.guests import guest_bytes

CONTRACT = load_contract()
BROKEN = """
(module
  (import "env" "realm_forwards" (func (param i32) (result i32)))
  (import "env" "realm_emit" (func (param i32) (result i32)))
  (import "env" "realm_stream_token" (func (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
  (import "env" "table" (table 1 funcref))
  (memory 1))
"""
WRONG_EXPORTS = """
(module
  (import "env" "realm_session_free" (func (param i32) (result i32)))
  (global (export "memory") i32 (i32.const 0))
  (func (export "generate") (param i64) (result i32) i32.const 0))
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(abi, [str(argument) for argument in arguments])


def wat(path: Path, text: str) -> Path:
    path.write_bytes(bytes(wasmtime.wat2wasm(text)))
    return path


def test_show_lists_every_name() -> None:
    result = run("show")
    assert result.exit_code == 0
    for function in CONTRACT.imports.values():
        assert f"(func ${function.name}" in result.output
    for name in (*CONTRACT.structs, *(code.name for code in CONTRACT.errors)):
        assert name in result.output


def test_show_tells_all_about_one() -> None:
    output = run("show", "realm_forward").output
    assert '(import "env" "realm_forward" (func $realm_forward (param $session i32)' in output
    assert "-10 context_full | The tokens in the session" in output
    assert "cap is at least rows * vocab_size" in output
    assert "On failure:" in output


def test_show_of_nothing() -> None:
    result = run("show", "realm_forwards")
    assert result.exit_code == 2
    assert (
        result.output.strip()
        == "Error: the contract has no 'realm_forwards'; `realm abi show` lists its names"
    )


@pytest.mark.parametrize(("command", "suffix"), [("header", ".h"), ("docs", ".md")])
def test_prints_and_writes_what_is_committed(tmp_path: Path, command: str, suffix: str) -> None:
    committed = next(path for path in GENERATED if path.suffix == suffix).read_text("utf-8")
    assert run(command).output == committed
    target = tmp_path / "out"
    assert run(command, "-o", target).exit_code == 0
    assert target.read_text("utf-8") == committed
    nowhere = run(command, "-o", tmp_path / "missing" / "out")
    assert (nowhere.exit_code, nowhere.output.count("\n")) == (2, 1)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_check_of_a_right_module(tmp_path: Path, version: Literal["v1", "v2"]) -> None:
    path = tmp_path / "guest.wasm"
    path.write_bytes(guest_bytes(version))
    result = run("check", path)
    assert result.exit_code == 0
    assert f"speaks ABI {version}" in result.output
    assert "imports env.realm_" in result.output
    assert "exports generate (" in result.output
    assert result.output.endswith("ok: a host can load it\n")
    assert "remark" not in result.output


def test_check_tells_every_problem(tmp_path: Path) -> None:
    result = run("check", wat(tmp_path / "broken.wasm", BROKEN))
    assert result.exit_code == 1
    wrong = [line for line in result.output.splitlines() if "WRONG" in line]
    for line, part in zip(
        wrong,
        (
            "env.realm_forwards",
            "realm_emit has the signature",
            "proc_exit",
            "env.table (table)",
            "mixes versions",
        ),
        strict=True,
    ):
        assert part in line
    assert "5 problems" in result.output


def test_check_tells_what_exports_lack(tmp_path: Path) -> None:
    result = run("check", wat(tmp_path / "broken.wasm", WRONG_EXPORTS))
    assert result.exit_code == 1
    for part in ("export its memory", "export generate has the signature (i64)", "not export realm_alloc"):
        assert part in result.output
    assert "remark: it does not import realm_encode" in result.output
    assert "3 problems" in result.output


def test_check_tells_of_proposals_that_guests_may_not_use(tmp_path: Path) -> None:
    result = run("check", wat(tmp_path / "shared.wasm", '(module (memory (export "memory") 1 1 shared))'))
    assert result.exit_code == 1
    assert "WRONG: the module is not valid: " in result.output
    assert "2 problems" in result.output


def test_check_of_names_that_would_drive_the_terminal(tmp_path: Path) -> None:
    text = r'(module (import "env" "\1b[31m\0a" (func)) (func (export "\1b[2J")))'
    result = run("check", wat(tmp_path / "names.wasm", text))
    assert result.exit_code == 1
    assert result.output.replace("\n", "").isprintable()
    assert r"\x1b[31m\n" in result.output


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"\0asm\1\0\0\0")
        file.truncate(300 << 20)


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda path: path.write_bytes(b""), "not a WebAssembly binary"),
        (lambda path: path.write_text("(module)"), "not a WebAssembly binary"),
        (lambda path: path.write_bytes(b"\0asm\r\0\1\0"), "component"),
        (lambda path: path.write_bytes(guest_bytes("v2")[:6]), "truncated"),
        (lambda path: path.write_bytes(guest_bytes("v2")[:5000]), "truncated"),
        (lambda path: path.write_bytes(guest_bytes("v2") + b"\x63"), "not valid"),
        (sparse, "more than the limit"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: None, "cannot be read"),
    ],
)
def test_check_of_what_is_no_module(tmp_path: Path, make: Callable[[Path], object], part: str) -> None:
    path = tmp_path / "input.wasm"
    make(path)
    result = run("check", path)
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert part in result.output
    assert "; " in result.output, "the remedy"
