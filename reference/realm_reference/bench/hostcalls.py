"""One host call, three ways: guarded as guests make it, raw without any check, and through wasmtime-py."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import wasmtime

# The raw callback is measured as the sandbox makes it, so from where the sandbox has it.
from realm_abi import _wasmtime
from realm_abi.contract import Function, load_contract
from realm_abi.sandbox import Runtime

from realm_reference.bench.nullhost import NullHost, Shape

_FREE_TEXT = 32
"""Where there are only zeros: the empty text that a v1 guest answers."""


@dataclass(frozen=True)
class CallCost:
    """Medians of one import, microseconds a call. All three run the same host method."""

    function: str
    guarded: float
    unguarded: float
    define_func: float


@dataclass(frozen=True)
class _Probe:
    """An import with the raw values that a token's loop passes, and what the host's method gets of them."""

    name: str
    raw: tuple[float, ...]
    arguments: tuple[Any, ...]


def measure(runtime: Runtime, shape: Shape, calls: int, repeat: int) -> list[CallCost]:
    """The cost of the calls that a token's loop is made of; every round has all ways in turn."""
    host = NullHost(shape, np.zeros((1, shape.vocab), np.float32))
    costs = []
    for probe in _probes(shape):
        function = load_contract().imports[probe.name]
        wasm = bytes(wasmtime.wat2wasm(_guest(function, probe.raw, calls)))
        method = functools.partial(getattr(host, probe.name), *probe.arguments)
        ways: list[Callable[[], object]] = [
            _guarded(runtime, wasm, host, function.version),
            _unchecked(wasm, function, method, raw=True),
            _unchecked(wasm, function, method, raw=False),
        ]
        costs.append(CallCost(probe.name, *_medians(ways, calls, repeat)))
    return costs


def _probes(shape: Shape) -> list[_Probe]:
    hidden, after = (np.zeros(shape.hidden, np.float32) for _ in range(2))
    one, row = np.ones(1, np.uint32), np.zeros(shape.vocab, np.float32)
    size = 4 * shape.hidden
    return [
        _Probe("realm_forward_layer", (1, 0, 1024, shape.hidden, 5, 1024 + size), (1, 0, hidden, 5, after)),
        _Probe("realm_forward", (1, 64, 1, 1024, 0, 0), (1, one, row, 0)),
        _Probe("realm_decode", (1, 64, 1, 0, 1024, 256), (1, one, 0, np.zeros(256, np.uint8))),
    ]


def _medians(ways: Sequence[Callable[[], object]], calls: int, repeat: int) -> list[float]:
    spent: list[list[float]] = [[] for _ in ways]
    for _ in range(repeat):
        for times, way in zip(spent, ways, strict=True):
            began = time.perf_counter_ns()
            way()
            times.append((time.perf_counter_ns() - began) / calls / 1e3)
    return [statistics.median(times) for times in spent]


def _guarded(runtime: Runtime, wasm: bytes, host: NullHost, version: int) -> Callable[[], object]:
    module = runtime.compile(wasm)

    def run() -> object:
        with closing(runtime.instantiate(module, host)) as instance:
            return instance.generate_v1("", 1) if version == 1 else instance.generate_v2("")

    return run


def _unchecked(
    wasm: bytes, function: Function, call: Callable[[], int], *, raw: bool
) -> Callable[[], object]:
    engine = wasmtime.Engine()
    store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
    module = wasmtime.Module(engine, wasm)
    kept: object = None
    if raw:
        params = function.wasm_params
        kept = _wasmtime.define(
            linker, "env", function.name, params, _import_type(module), lambda _values: call()
        )
    else:
        linker.define_func("env", function.name, _import_type(module), lambda *_values: call())
    generate = linker.instantiate(store, module).exports(store)["generate"]
    assert isinstance(generate, wasmtime.Func)
    arguments = (0,) * len(load_contract().exports[function.version]["generate"].signature)

    def run() -> object:
        return kept, generate(store, *arguments)

    return run


def _import_type(module: wasmtime.Module) -> wasmtime.FuncType:
    kind = module.imports[0].type
    assert isinstance(kind, wasmtime.FuncType)
    return kind


def _guest(function: Function, raw: Sequence[float], calls: int) -> str:
    """A guest in the text format whose `generate` makes so many calls of one import."""
    constants = " ".join(
        f"({kind}.const {value})" for kind, value in zip(function.wasm_params, raw, strict=True)
    )
    generate = load_contract().exports[function.version]["generate"]
    new = '(func (export "realm_new") (result i32) (i32.const 1))' if function.version == 1 else ""
    answer = _FREE_TEXT if function.version == 1 else 0
    return f"""(module
      (import "env" "{function.name}" (func $call (param {" ".join(function.wasm_params)}) (result i32)))
      (memory (export "memory") 32)
      (func (export "realm_alloc") (param i32) (result i32) (i32.const 65536))
      {new}
      (func (export "generate") (param {" ".join(generate.wasm_params)}) (result i32) (local $left i32)
        (local.set $left (i32.const {calls}))
        (loop $again
          (drop (call $call {constants}))
          (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (i32.const {answer})))"""
