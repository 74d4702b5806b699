"""What a tenant's sandbox takes: to compile, to load, to start, and to keep alive beside many others."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import wasmtime
from realm_abi.errors import FinishReason
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import Runtime, engine_config

from realm_reference.bench.nullhost import NullHost, Shape

USED = 20
"""So many of the instances generate a few tokens, to see what one takes that is in use."""


@dataclass(frozen=True)
class SandboxCost:
    """Of the v2 guest. Memory is None where the system does not tell; a used instance has generated."""

    compile_ms: float
    serialized_bytes: int
    aot_load_ms: float
    cold_start_us: float
    warm_start_us: float
    alive: int
    idle_resident_kib: float | None
    idle_virtual_mib: float | None
    idle_per_gib: int | None
    used_resident_kib: float | None


def measure(shape: Shape, alive: int, repeat: int) -> SandboxCost:
    """Compiles, loads and starts `repeat` times, then keeps `alive` sandboxes alive at once."""
    wasm = guest_bytes("v2")
    compile_ms = _median_ms(lambda: Runtime().compile(wasm), repeat)
    engine = wasmtime.Engine(engine_config())
    compiled = bytes(wasmtime.Module(engine, wasm).serialize())
    load_ms = _median_ms(lambda: wasmtime.Module.deserialize(engine, compiled), repeat)

    logits = np.random.default_rng(0).standard_normal((1, shape.vocab), np.float32)
    runtime = Runtime()
    module = runtime.compile(wasm)
    with ExitStack() as stack:
        starts = []
        gc.collect()
        before = memory()
        instances = []
        for _ in range(max(2, alive)):
            began = time.perf_counter_ns()
            instance = runtime.instantiate(module, NullHost(shape, logits))
            starts.append((time.perf_counter_ns() - began) / 1e3)
            instances.append(stack.enter_context(closing(instance)))
        idle = memory()
        used = instances[:USED]
        for instance in used:
            answer = instance.generate_v2("a prompt", model=1, max_tokens=2, temperature=1.0, top_k=40)
            if answer != FinishReason.max_tokens:
                raise RuntimeError(f"the guest ended with {answer}")
        after = memory()
    return SandboxCost(
        compile_ms=compile_ms,
        serialized_bytes=len(compiled),
        aot_load_ms=load_ms,
        cold_start_us=starts[0],
        warm_start_us=statistics.median(starts[1:]),
        alive=len(starts),
        idle_resident_kib=_each("VmRSS", before, idle, len(starts)),
        idle_virtual_mib=_scaled(_each("VmSize", before, idle, len(starts)), 1024),
        idle_per_gib=_per_gib(_each("VmRSS", before, idle, len(starts))),
        used_resident_kib=_each("VmRSS", idle, after, len(used)),
    )


def _median_ms(action: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        began = time.perf_counter_ns()
        action()
        times.append((time.perf_counter_ns() - began) / 1e6)
    return statistics.median(times)


def memory() -> dict[str, int]:
    """This process's sizes in KiB by their names in Linux; empty elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text("utf-8").splitlines() if status.exists() else []
    return {line.partition(":")[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}


def _each(size: str, before: dict[str, int], after: dict[str, int], count: int) -> float | None:
    """By how much a size grew, KiB for each of so many."""
    return (after[size] - before[size]) / count if size in after else None


def _scaled(value: float | None, divisor: float) -> float | None:
    return None if value is None else value / divisor


def _per_gib(resident_kib: float | None) -> int | None:
    return int(2**20 / resident_kib) if resident_kib and resident_kib > 0 else None
