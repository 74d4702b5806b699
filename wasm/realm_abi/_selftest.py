"""Whether the installed wasmtime passes raw values as `_wasmtime` expects: asked once, before any guest runs.

Nothing in the bindings would notice that a struct has another layout: guests' parameters would just be wrong.
"""

from __future__ import annotations

import functools
from importlib.metadata import version

import wasmtime

from realm_abi import _wasmtime
from realm_abi.guard import Raw

_GUEST = """(module
  (import "env" "probe" (func $probe (param i32 f32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 65532) "here")
  (func (export "go") (param i32) (result i32)
    (call $probe (local.get 0) (f32.const -0.5) (i32.const -2))))"""
_PARAMS = ("i32", "f32", "i32")
_ARGUMENT, _ANSWER = 0x7654_3210, -3


@functools.cache
def verify_raw_calls() -> None:
    """Raises RuntimeError, with the remedy, if values do not arrive as they were sent."""
    seen: list[list[Raw]] = []

    def probe(raw: list[Raw]) -> int:
        seen.append(raw)
        return _ANSWER

    engine = wasmtime.Engine()
    store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
    kept = _wasmtime.define(linker, "env", "probe", _PARAMS, _wasmtime.new_functype(_PARAMS), probe)
    exports = linker.instantiate(store, wasmtime.Module(engine, _GUEST)).exports(store)
    go, memory = exports["go"], exports["memory"]
    assert isinstance(go, wasmtime.Func)
    assert isinstance(memory, wasmtime.Memory)
    answer = _wasmtime.call(store, go, _ARGUMENT)
    text = _wasmtime.GuestMemory(store, memory).data()[-4:].tobytes()
    del kept
    if (seen, answer, text) != ([[_ARGUMENT, -0.5, -2]], _ANSWER & 0xFFFF_FFFF, b"here"):
        raise RuntimeError(
            f"wasmtime {version('wasmtime')} passes values in another way than this host reads them; "
            "install the release that realm-harness asks for: pip install 'realm-harness[guest]'"
        )
