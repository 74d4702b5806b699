"""What may not be a guest is refused when it is loaded, with one line that says why and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime
from realm_abi.contract import load_contract
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import ModuleRejected, Runtime

V2_EXPORTS = """
  (memory (export "memory") 1)
  (func (export "realm_alloc") (param i32) (result i32) i32.const 1024)
  (func (export "generate") (param i32) (result i32) i32.const 0)
"""
V1_EXPORTS = """
  (memory (export "memory") 1)
  (func (export "realm_new") (result i32) i32.const 0)
  (func (export "generate") (param i32 i32 i32 i32) (result i32) i32.const 0)
"""
FREE = '(import "env" "realm_session_free" (func (param i32) (result i32)))'
STREAM = '(import "env" "realm_stream_token" (func (param i32 i32) (result i32)))'


def wat(*parts: str) -> bytes:
    return bytes(wasmtime.wat2wasm(f"(module {' '.join(parts)})"))


def rejection(runtime: Runtime, source: bytes | Path) -> str:
    with pytest.raises(ModuleRejected) as caught:
        runtime.compile(source)
    message = str(caught.value)
    assert "\n" not in message
    assert "; " in message, "the remedy"
    return message


@pytest.mark.parametrize(
    ("parts", "version"),
    [
        ((V2_EXPORTS,), 2),
        ((V1_EXPORTS,), 1),
        ((FREE, V2_EXPORTS), 2),
        ((STREAM, V1_EXPORTS), 1),
        ((STREAM, V1_EXPORTS, '(func (export "realm_alloc") (param i32) (result i32) i32.const 0)'), 1),
        ((V2_EXPORTS, '(global (export "more") i32 (i32.const 1)) (func (export "and_more"))'), 2),
    ],
)
def test_speaks_a_version(runtime: Runtime, parts: tuple[str, ...], version: int) -> None:
    assert runtime.compile(wat(*parts)).version == version


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", "not a WebAssembly binary"),
        (b"MZ\x90\0 and so on", "not a WebAssembly binary"),
        (b"(module)", "not a WebAssembly binary"),
        (b"\0as", "truncated after 3 bytes"),
        (b"\0asm\x01\0", "truncated after 6 bytes"),
        (b"\0asm\x0d\0\x01\0", "a component"),
        (b"\0asm\x02\0\0\0", "unknown binary version"),
        (wat(V2_EXPORTS)[:-9], "truncated"),
        (wat(V2_EXPORTS) + b"\x63", "not valid"),
        (wat('(memory (export "memory") 1 2 shared)'), "shared"),
        (wat('(memory (export "memory") i64 1)'), "64-bit"),
        (wat("(memory 1) (memory 1)"), "memories"),
        (wat(), "imports nothing"),
        (wat('(memory (export "memory") 1)'), "imports nothing"),
        (wat(STREAM, V2_EXPORTS), "does not export realm_new"),
        (wat(FREE, V2_EXPORTS.replace('"realm_alloc"', '"alloc"')), "does not export realm_alloc"),
        (wat(FREE, V2_EXPORTS.replace('"memory"', '"mem"')), "does not export its memory"),
        (
            wat(FREE, V2_EXPORTS.replace('"generate"', '"Generate"')),
            "does not export generate; a v2 guest",
        ),
        (
            wat(FREE, '(memory (export "memory") 1) (global (export "generate") i32 (i32.const 0))'),
            "export generate has the signature global",
        ),
        (
            wat(
                FREE,
                V2_EXPORTS.replace(
                    "(param i32) (result i32) i32.const 0", "(param i64) (result i32) i32.const 0"
                ),
            ),
            "export generate has the signature (i64) -> (i32) instead of (i32) -> (i32)",
        ),
        (wat('(import "env" "realm_fowrard" (func))', V2_EXPORTS), "unknown import env.realm_fowrard"),
        (wat('(import "wasi_snapshot_preview1" "fd_write" (func))'), "wasi_snapshot_preview1.fd_write"),
        (wat('(import "other" "realm_forward" (func))'), "unknown import other.realm_forward"),
        (wat('(import "env" "memory" (memory 1))'), "unknown import env.memory (memory)"),
        (
            wat('(import "env" "realm_abi_version" (global i32))'),
            "has the signature global",
        ),
        (
            wat('(import "env" "realm_session_free" (func (param i64) (result i32)))'),
            "(i64) -> (i32) instead of (i32) -> (i32)",
        ),
        (wat(FREE, STREAM, V1_EXPORTS), "mixes versions of the ABI"),
    ],
)
def test_refused(runtime: Runtime, source: bytes, reason: str) -> None:
    assert reason in rejection(runtime, source)


def test_a_mix_names_both(runtime: Runtime) -> None:
    message = rejection(runtime, wat(FREE, STREAM, V1_EXPORTS))
    assert "realm_stream_token of v1 and realm_session_free of v2" in message


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_guest_cut_anywhere_is_refused(runtime: Runtime, version: str) -> None:
    wasm = guest_bytes(version)
    for size in range(0, len(wasm), 97):
        rejection(runtime, wasm[:size])


def test_too_large_is_not_read(tmp_path: Path) -> None:
    small = Runtime(max_module_bytes=100)
    assert "101 bytes, more than the limit of 100" in rejection(small, bytes(101))
    path = tmp_path / "huge.wasm"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert "more than the limit of 100" in rejection(small, path)


def test_files(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "guest.wasm"
    path.write_bytes(guest_bytes("v2"))
    assert runtime.compile(path).version == 2
    assert "cannot be read: No such file" in rejection(runtime, tmp_path / "none.wasm")


def test_compiled_once(runtime: Runtime) -> None:
    assert runtime.compile(guest_bytes("v2")) is runtime.compile(guest_bytes("v2"))


def test_the_cache_is_bounded() -> None:
    few = Runtime(cached_modules=1)
    first = few.compile(wat(V2_EXPORTS))
    few.compile(wat(V1_EXPORTS))
    assert few.compile(wat(V2_EXPORTS)) is not first


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_our_guests_import_only_the_contract(runtime: Runtime, version: str) -> None:
    module = runtime.compile(guest_bytes(version))
    known = {function.name for function in load_contract().imports_of(module.version)}
    assert set(module.imports) <= known
    assert module.imports


def test_there_are_two_guests() -> None:
    with pytest.raises(ValueError, match="no guest 'v3'"):
        guest_bytes("v3")


@pytest.mark.parametrize(
    "name", [r"a\0ab\1b[31m", "x" * 100_000, r"\e2\80\a8"], ids=["controls", "long", "separator"]
)
def test_names_of_a_module_are_made_fit_to_be_shown(runtime: Runtime, name: str) -> None:
    message = rejection(runtime, wat(f'(import "env" "{name}" (func))'))
    assert message.isprintable()
    assert len(message) < 1000
    assert message.endswith("guests get the imports of the contract and no others")
