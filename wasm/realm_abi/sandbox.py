"""Runs guests: a module compiled once, an instance per request in a store of its own, with its own limits.

A guest gets the imports of the contract and nothing else: no WASI, no clock, no randomness. Its memory is
capped; the time that it computes between two host calls is limited by wasmtime's epochs. Whatever it does,
it ends as an answer, an AbiError or a GuestFault of its own instance.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import wasmtime

from realm_abi._compiled import CompiledModules
from realm_abi._epochs import EpochClock
from realm_abi._fibertest import fibers_work
from realm_abi._imports import Wrap
from realm_abi._selftest import verify_raw_calls
from realm_abi.contract import load_contract
from realm_abi.hostapi import Dimensions, HostTrap
from realm_abi.instance import FaultKind, GuestFault, Instance, Limits
from realm_abi.interface import (
    Exported,
    Imported,
    ModuleRejected,
    Signature,
    check_header,
    check_size,
    examine,
)
from realm_abi.steps import Steps, finish

__all__ = [
    "FaultKind",
    "GuestFault",
    "GuestModule",
    "HostTrap",
    "Instance",
    "Limits",
    "ModuleRejected",
    "Runtime",
    "Wrap",
    "engine_config",
    "fibers_work",
    "surface",
]


TICK_SECONDS = 0.01
"""How often a guest that computes is asked whether it may go on."""
TURN_SECONDS = 0.004
"""The same on fibers, where others wait for it meanwhile; far more than it takes to sample a token."""


@dataclass(frozen=True, slots=True)
class GuestModule:
    """A compiled module that keeps the contract. `memory_bytes` is what its memory starts with.

    `imports` has the functions that it imports, in its order, with their types in its engine.
    """

    digest: str
    version: int
    compiled: wasmtime.Module
    imports: Mapping[str, wasmtime.FuncType]
    memory_bytes: int


class Runtime:
    """One engine with its cache of compiled modules; safe to use from several threads.

    `compiled` is a folder that keeps them for the next process; it is made if it is not there. With `fibers`
    (where `fibers_work`) many guests can run on one thread, by their `..._steps`.
    """

    def __init__(
        self,
        *,
        max_module_bytes: int = 64 << 20,
        cached_modules: int = 64,
        compiled: Path | None = None,
        fibers: bool = False,
    ) -> None:
        self.fibers = fibers
        verify_raw_calls()
        self._engine = wasmtime.Engine(engine_config())
        self._clock = EpochClock(self._engine, TURN_SECONDS if fibers else TICK_SECONDS)
        self._max_module_bytes = max_module_bytes
        self._cached_modules = cached_modules
        self._compiled = CompiledModules(compiled) if compiled else None
        self._modules: OrderedDict[str, GuestModule] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, source: bytes | Path) -> GuestModule:
        """Checks and compiles a module, or finds it compiled. Raises ModuleRejected, which says why."""
        wasm = self._read(source) if isinstance(source, Path) else source
        check_size(len(wasm), self._max_module_bytes)
        check_header(wasm)
        digest = hashlib.sha256(wasm).hexdigest()
        with self._lock:
            module = self._modules.get(digest)
        if module is None:  # outside the lock: a module that compiles slowly keeps nobody else waiting
            module = self._load(wasm, digest)
        with self._lock:
            self._modules[digest] = module
            self._modules.move_to_end(digest)
            while len(self._modules) > self._cached_modules:
                self._modules.popitem(last=False)
            return module

    def instantiate(
        self, module: GuestModule, host: Dimensions, limits: Limits | None = None, *, wrap: Wrap | None = None
    ) -> Instance:
        """A fresh instance whose imports are `host`'s methods. Raises GuestFault if it cannot start."""
        return finish(self.instantiate_steps(module, host, limits, wrap=wrap))

    def instantiate_steps(
        self, module: GuestModule, host: Dimensions, limits: Limits | None = None, *, wrap: Wrap | None = None
    ) -> Steps[Instance]:
        """As `instantiate`."""
        given = (self._engine, self._clock, module, host, limits or Limits(), wrap)
        instance = Instance(*given, fibers=self.fibers)
        yield from instance.start()
        return instance

    def _load(self, wasm: bytes, digest: str) -> GuestModule:
        """Compiles a module unless an earlier process did, and checks it anyway."""
        kept = self._compiled.load(self._engine, digest) if self._compiled else None
        compiled = kept or _compile(self._engine, wasm)
        module = _checked(compiled, digest)
        if self._compiled and kept is None:
            self._compiled.save(digest, compiled)
        return module

    def _read(self, path: Path) -> bytes:
        try:
            check_size(path.stat().st_size, self._max_module_bytes)
            return path.read_bytes()
        except OSError as error:
            raise ModuleRejected(f"{path} cannot be read: {error.strerror}; check the path") from None


def engine_config() -> wasmtime.Config:
    """Epochs on; proposals off that the contract does not need or that make guests less repeatable.

    Memories keep wasmtime's reservation, 4 GiB of addresses each; 1,000 use 3 % of what x86-64 has. With 16
    or 64 MiB instead the compiled code has to check every access, which made filtered sampling 10 % slower,
    and a memory that outgrows it moves, perhaps under a view that a host has kept against the rules.
    """
    config = wasmtime.Config()
    config.epoch_interruption = True
    config.wasm_threads = False
    config.wasm_memory64 = False
    config.wasm_multi_memory = False
    config.wasm_relaxed_simd = False
    config.wasm_exceptions = False
    config.wasm_component_model = False
    config.wasm_gc = False
    return config


def _compile(engine: wasmtime.Engine, wasm: bytes) -> wasmtime.Module:
    try:
        return wasmtime.Module(engine, wasm)
    except wasmtime.WasmtimeError as error:
        reason = " ".join(str(error).split())
        truncated = "unexpected end" in reason
        remedy = "it is truncated, build or copy it again" if truncated else "build it for plain wasm32"
        raise ModuleRejected(f"the module is not valid: {reason}; {remedy}") from None


def _checked(compiled: wasmtime.Module, digest: str) -> GuestModule:
    """A module that keeps the contract. Raises ModuleRejected, which says why another does not."""
    imports, exports = surface(compiled)
    interface = examine(load_contract(), imports, exports)
    if interface.problems:
        raise ModuleRejected(interface.problems[0])
    types = {item.name or "": item.type for item in compiled.imports}
    functions = {name: kind for name, kind in types.items() if isinstance(kind, wasmtime.FuncType)}
    return GuestModule(digest, interface.version, compiled, functions, _memory_bytes(compiled))


def surface(compiled: wasmtime.Module) -> tuple[list[Imported], dict[str, Exported]]:
    """What a module imports, in order, and what it exports by name, in the words of the text format."""
    imports = [Imported(item.module, item.name or "", *_described(item.type)) for item in compiled.imports]
    return imports, {item.name: Exported(*_described(item.type)) for item in compiled.exports}


def _described(kind: object) -> tuple[str, Signature | None]:
    """What an import or export is, in the words of the text format."""
    if isinstance(kind, wasmtime.FuncType):
        params = tuple(str(param) for param in kind.params)
        return "function", Signature(params, tuple(str(result) for result in kind.results))
    return type(kind).__name__.removesuffix("Type").lower(), None


def _memory_bytes(compiled: wasmtime.Module) -> int:
    types = [item.type for item in compiled.exports if item.name == "memory"]
    return sum(kind.limits.min * kind.page_size for kind in types if isinstance(kind, wasmtime.MemoryType))
