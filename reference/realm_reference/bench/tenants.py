"""What many tenants cost that one does not: throughput, fairness among equals, memory of each."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from realm_abi.guests import guest_bytes

from realm_reference.bench.batches import rate, requests, run
from realm_reference.bench.sandboxes import memory
from realm_reference.orchestration import Failed, Finished, Generation, GenerationRequest, Orchestrator

_IDLE_TENANTS: Final = 128


@dataclass(frozen=True)
class TenantCost:
    """`tenants` guests at once: tokens a second if they are one tenant's and if each is another's (medians of
    turns), and the ratio. `jain` is the fairness index of the tokens that equal tenants get in a while, twice
    as many wanting to run as can. KiB are resident memory: of a tenant whose guest runs, of one whose request
    is over, and of one that has a guest module of its own besides; None where the system does not tell.
    """

    tenants: int
    one: float
    many: float
    ratio: float
    jain: float
    active_kib: float | None
    idle_kib: float | None
    own_module_kib: float | None


def measure(orchestrator: Orchestrator, tenants: int, tokens: int, repeat: int) -> TenantCost:
    """The orchestrator runs so many guests at once at least."""
    return asyncio.run(_measure(orchestrator, tenants, tokens, repeat))


def jain(shares: Iterable[float]) -> float:
    """(sum x)^2 / (n * sum x^2), 1 where all are equal (Jain, Chiu and Hawe, 1984)."""
    values = list(shares)
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0


async def _measure(orchestrator: Orchestrator, tenants: int, tokens: int, repeat: int) -> TenantCost:
    names = [f"tenant {number}" for number in range(tenants)]
    await run(orchestrator, requests(orchestrator, ["warm-up"], tokens))
    active = await _active_kib(orchestrator, names, tokens)
    ones, manies = [], []
    for _ in range(repeat):
        ones.append(await rate(orchestrator, requests(orchestrator, names[:1] * tenants, tokens)))
        manies.append(await rate(orchestrator, requests(orchestrator, names, tokens)))
    fairness = await _fairness(orchestrator, names, tokens)
    idle = await _idle_kib(orchestrator)
    return TenantCost(
        tenants=tenants,
        one=statistics.median(ones),
        many=statistics.median(manies),
        ratio=statistics.median(many / one for many, one in zip(manies, ones, strict=True)),
        jain=fairness,
        active_kib=active,
        idle_kib=idle,
        own_module_kib=_own_module_kib(orchestrator),
    )


async def _active_kib(orchestrator: Orchestrator, names: list[str], tokens: int) -> float | None:
    """The process's growth when the guests of all are in the middle of their generations, for each."""
    before = memory().get("VmRSS")
    generations = [orchestrator.submit(request) for request in requests(orchestrator, names, tokens)]
    ends = [await _read(generation, tokens // 2) for generation in generations]
    during = memory().get("VmRSS")
    for generation, ended in zip(generations, ends, strict=True):
        if not ended:
            await _read(generation, tokens)
    return None if before is None or during is None else (during - before) / len(names)


async def _read(generation: Generation, most: int) -> bool:
    """Take so many events, or all up to its end; whether that has come."""
    for _ in range(most + 1):
        if isinstance(await generation.next_event(), Finished | Failed):
            return True
    return False


async def _fairness(orchestrator: Orchestrator, names: list[str], tokens: int) -> float:
    """Each tenant asks for two at a time, without end, until each has had two on average."""
    got: Counter[str] = Counter(dict.fromkeys(names, 0))
    enough = asyncio.Event()
    running: set[Generation] = set()

    async def user(number: int) -> None:
        name = names[number % len(names)]
        while not enough.is_set():
            (request,) = requests(orchestrator, [name], tokens)
            generation = orchestrator.submit(request)
            running.add(generation)
            async for event in generation:
                if isinstance(event, Failed):
                    raise RuntimeError(f"a generation failed: {event.message}")
                if not isinstance(event, Finished) and not enough.is_set():
                    got[name] += 1
            running.discard(generation)
            if sum(got.values()) >= 2 * tokens * len(names):
                enough.set()
                for other in running:
                    other.cancel()

    await asyncio.gather(*(user(number) for number in range(2 * len(names))))
    return jain(got.values())


async def _idle_kib(orchestrator: Orchestrator) -> float | None:
    """The process's growth by tenants that have asked for something once, one after the other, for each.

    Their prompts fill no page: what the prefix cache keeps is bounded, and no tenant's by right.
    """

    async def ask(tenant: str) -> None:
        await run(orchestrator, [GenerationRequest(orchestrator.prepare("hello"), 2, tenant=tenant)])

    await ask("the last to be new")
    before = memory().get("VmRSS")
    for number in range(_IDLE_TENANTS):
        await ask(f"idle {number}")
    after = memory().get("VmRSS")
    return None if before is None or after is None else (after - before) / _IDLE_TENANTS


def _own_module_kib(orchestrator: Orchestrator) -> float | None:
    """The process's growth by guest modules of tenants' own, each other bytes, for each."""
    guest = guest_bytes("v2")
    with tempfile.TemporaryDirectory() as folder:
        modules = {}
        for number in range(_IDLE_TENANTS // 4):
            name = b"%04d" % number
            path = modules[f"idle {number}"] = Path(folder) / f"{number}.wasm"
            path.write_bytes(guest + bytes([0, len(name) + 1 + 4, 4]) + b"mine" + name)  # a custom section
        before = memory().get("VmRSS")
        orchestrator.use_guests(modules)
        after = memory().get("VmRSS")
        orchestrator.use_guests({})
    return None if before is None or after is None else (after - before) / len(modules)
