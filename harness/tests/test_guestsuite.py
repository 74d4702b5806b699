"""The guest suite: the shipped guests keep the contract, the command says who does not and how."""

import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from realm_abi.guests import guest_bytes
from realm_harness.case import load_cases
from realm_harness.conform import run_cases
from realm_harness.conform_commands import conform
from realm_harness.guestsuite import GUEST
from realm_harness.guestsuite.conform import guest_cases
from realm_harness.guestsuite.oracle import chi_square, survival
from realm_harness.guestsuite.subject import GuestSubject
from realm_mocks.host import load_guest, shared_runtime

VERSIONS = ("v1", "v2")
COMPONENT = b"\0asm\x0d\0\x01\0"
EMPTY = b"\0asm\x01\0\0\0"


def shipped(version: str) -> GuestSubject:
    return GuestSubject(load_guest(guest_bytes(version), shared_runtime()), f"realm_{version}.wasm")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(conform, list(arguments), catch_exceptions=False)


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "guest.wasm"
    path.write_bytes(guest_bytes("v2"))
    return path


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.timeout(180)
def test_a_shipped_guest_keeps_the_contract(version: str) -> None:
    guest = shipped(version)
    results = run_cases(guest_cases(guest), guest).results
    assert [f"{r.case.id}: {r.message}" for r in results if r.verdict != "ok"] == []
    assert len(results) >= 80


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.timeout(180)
def test_a_guest_written_from_the_contract_is_accused_of_nothing(version: str) -> None:
    text = files("realm_abi").joinpath(f"examples/greedy_{version}.wat").read_text("utf-8")
    guest = GuestSubject(load_guest(text, shared_runtime()), f"greedy_{version}.wasm")
    results = run_cases(guest_cases(guest), guest).results
    assert [f"{r.case.id}: {r.message}" for r in results if r.verdict not in ("ok", "unimplemented")] == []
    assert sum(result.verdict == "ok" for result in results) >= 80


AFTER_FEEDING = """(i32.const 1) (i32.load (i32.const 0x100))))
      (if (i32.lt_s (local.get $answer) (i32.const 0))"""
OTHER_WAYS = {
    "a chunk of one token": ("(local.set $chunk (i32.const 64))", "(local.set $chunk (i32.const 1))"),
    "a full context ends the text": (
        AFTER_FEEDING,
        AFTER_FEEDING.replace(
            "(if (i32.lt_s",
            "(if (i32.eq (local.get $answer) (i32.const -10)) (then (return (i32.const 2))))\n(if (i32.lt_s",
        ),
    ),
}


@pytest.mark.parametrize("edit", OTHER_WAYS.values(), ids=OTHER_WAYS.keys())
def test_a_guest_that_does_it_otherwise_is_accused_of_nothing(edit: tuple[str, str]) -> None:
    text = files("realm_abi").joinpath("examples/greedy_v2.wat").read_text("utf-8")
    assert text.count(edit[0]) == 1
    guest = GuestSubject(load_guest(text.replace(*edit), shared_runtime()), "otherwise.wasm")
    cases = guest_cases(guest, ["GUEST-FAULT-*", "GUEST-RESULT-*", "GUEST-LENGTH-*"])
    results = run_cases(cases, guest).results
    assert [f"{r.case.id}: {r.message}" for r in results if r.verdict not in ("ok", "unimplemented")] == []
    assert sum(result.verdict == "ok" for result in results) >= 20


def test_ids_are_unique_and_cases_explain_themselves() -> None:
    cases = load_cases(suite=GUEST)
    ids = [case.id for case in cases]
    assert len(ids) == len(set(ids))
    for case in cases:
        assert re.fullmatch(r"GUEST-[A-Z0-9]+-(\d{3}|realm_\w+-\w+)", case.id), case.id
        assert case.title.endswith("."), case.id
        assert case.reason, case.id
        assert case.versions, case.id
    assert {case.chapter for case in cases} == set(GUEST.chapters)


def test_the_command_writes_what_was_seen(module: Path, tmp_path: Path) -> None:
    results, junit = tmp_path / "out" / "g.json", tmp_path / "out" / "g.xml"
    arguments = ["--guest", str(module), "--case", "GUEST-TRACE-*"]
    done = run(*arguments, "--json", str(results), "--junit", str(junit))
    assert done.exit_code == 0, done.output
    written = json.loads(results.read_text("utf-8"))
    assert written["schema"] == "realm-conformance/1"
    assert written["target"]["guest"] == str(module)
    assert written["target"]["abi_version"] == 2
    assert all(case["wire"] and f"--case {case['id']}" in case["repro"] for case in written["cases"])
    assert junit.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("wasm", "said"),
    [
        (b"", "not a WebAssembly binary"),
        (b"#!/bin/sh\n", "not a WebAssembly binary"),
        (b"\0asm\x01", "truncated"),
        (guest_bytes("v2")[:-100], "truncated"),
        (COMPONENT, "component"),
        (EMPTY, "generate"),
    ],
)
def test_what_is_no_guest_is_one_line_and_2(wasm: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "guest.wasm"
    path.write_bytes(wasm)
    done = run("--guest", str(path))
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_what_lacks_its_memory_is_told_so(tmp_path: Path) -> None:
    import wasmtime

    path = tmp_path / "guest.wasm"
    exports = '(func (export "realm_alloc") (param i32) (result i32) (i32.const 0))'
    generate = '(func (export "generate") (param i32) (result i32) (i32.const 0))'
    path.write_bytes(bytes(wasmtime.wat2wasm(f"(module {exports} {generate})")))
    done = run("--guest", str(path))
    assert done.exit_code == 2
    assert "export it as `memory`" in done.output


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "guest.wasm"
    with path.open("wb") as file:
        file.write(EMPTY)
        file.truncate(300 << 20)
    done = run("--guest", str(path))
    assert done.exit_code == 2
    assert "limit" in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_no_file_and_no_case(module: Path, tmp_path: Path) -> None:
    missing = run("--guest", str(tmp_path / "nobody.wasm"))
    assert missing.output.count("nobody.wasm") == 1, "a file is named once"
    assert (missing.exit_code, len(missing.output.strip().splitlines())) == (2, 1)
    none = run("--guest", str(module), "--case", "GUEST-NOTHING-*")
    assert none.exit_code == 2
    assert "GUEST-TRACE-001" in none.output


def test_one_thing_at_a_time(module: Path) -> None:
    assert run().exit_code == 2
    assert run("http://127.0.0.1:1", "--guest", str(module)).exit_code == 2


def test_pytest_collects_the_chapters(module: Path, tmp_path: Path) -> None:
    results = tmp_path / "g.json"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--realm-guest={module}"]
    command += ["--realm-case=GUEST-LAYERS-*", "--realm-case=GUEST-LENGTH-*", f"--realm-json={results}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "PYTEST"))}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ids = [case["id"] for case in json.loads(results.read_text("utf-8"))["cases"]]
    assert ids == [f"GUEST-LENGTH-00{n}" for n in range(1, 9)]


def test_pytest_refuses_what_is_no_guest(tmp_path: Path) -> None:
    (tmp_path / "guest.wasm").write_bytes(b"no wasm")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--realm-guest=guest.wasm"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "not a WebAssembly binary" in done.stderr


@pytest.mark.parametrize(("freedom", "at_5_percent"), [(1, 3.841), (2, 5.991), (3, 7.815), (10, 18.307)])
def test_the_tail_of_chi_square(freedom: int, at_5_percent: float) -> None:
    assert survival(at_5_percent, freedom) == pytest.approx(0.05, abs=2e-4)


def test_chi_square_tells_a_bias_from_chance() -> None:
    due = np.array([0.5, 0.3, 0.2])
    drawn = np.random.default_rng(1).multinomial(600, due)
    assert chi_square(drawn, due) > 1e-3
    assert chi_square(np.array([400, 100, 100]), due) < 1e-12
