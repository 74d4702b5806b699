"""All of `realm bench engine`: one run, its figures as JSON and as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from realm_abi.guests import guest_bytes
from realm_abi.sandbox import Runtime, fibers_work

from realm_reference.bench import batches, sessions, tenants, waiting
from realm_reference.bench.header import header, lines, settings_line
from realm_reference.engine import Engine
from realm_reference.model.model import Model
from realm_reference.orchestration import Orchestrator

SCHEMA = "realm-bench-engine/1"
RATIO_GOAL = 0.97
"""Of one tenant's throughput, with as many tenants as guests."""
JAIN_GOAL = 0.95
IDLE_GOAL_KIB = 1024.0
WAYS = {"none": "no guests", "fibers": "on fibers", "threads": "on threads"}


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    batches: tuple[int, ...] = (1, 8, 32)
    tokens: int = 48
    repeat: int = 5
    tenants: int = 64
    sessions: int = 0
    seed: int = 7


def run(settings: Settings, model: Model) -> dict[str, Any]:
    """Measures everything; the keys are those of the JSON. Rates are medians, in tokens a second."""
    figures: dict[str, Any] = {
        **header(SCHEMA, "wasmtime", "numpy"),
        "settings": asdict(settings),
        "model": {"name": model.name, "compute": str(model.compute)},
    }
    figures["waiting_us"] = [asdict(cost) for cost in waiting.measure(settings.repeat)]
    if settings.sessions:
        figures["sessions"] = asdict(sessions.measure(settings.sessions, settings.seed))
    engine, runtime = Engine(model.runner()), Runtime(fibers=fibers_work())
    try:
        orchestrator = Orchestrator(
            model, engine, runtime, runtime.compile(guest_bytes("v2")),
            max_running=max(settings.tenants, *settings.batches), max_waiting=4 * settings.tenants,
        )  # fmt: skip
        figures["waits_on"] = "fibers" if runtime.fibers else "threads"
        figures["tenants"] = asdict(
            tenants.measure(orchestrator, settings.tenants, settings.tokens, settings.repeat)
        )
        figures["batches"] = [
            asdict(cost)
            for cost in batches.measure(
                model.runner(), engine, orchestrator, settings.batches, settings.tokens, settings.repeat
            )
        ]
    finally:
        engine.close()
    return figures


def table(figures: dict[str, Any]) -> Iterator[str]:
    """The figures as lines for people."""
    yield from lines(figures)
    yield settings_line(figures)
    yield f"{figures['model']['name']}: {figures['model']['compute']}; guests wait on {figures['waits_on']}"
    yield ""
    heads = ("model", "engine", "guests", "engine %", "guests %", "in a step")
    yield f"{'tokens a second':<18}" + "".join(f"{head:>10}" for head in heads)
    for cost in figures["batches"]:
        shares = [100 * cost[what] / cost["model"] for what in ("engine", "guests")]
        row = (cost["model"], cost["engine"], cost["guests"], *shares, cost["in_a_step"])
        yield f"{'batch ' + str(cost['batch']):<18}" + "".join(f"{value:>10.1f}" for value in row)
    yield ""
    yield f"{'waiting, us a token':<24}{'wall':>10}{'CPU':>10}"
    for cost in figures["waiting_us"]:
        name = f"{cost['guests']} at once, {WAYS[cost['way']]}"
        yield f"{name:<24}{cost['us']:>10.1f}{cost['cpu_us']:>10.1f}"
    yield ""
    yield from _tenants(figures["tenants"])
    if "sessions" in figures:
        yield ""
        yield "random sessions, all freed"
        yield from (f"  {name:<20}{_figure(value):>12}" for name, value in figures["sessions"].items())


def _tenants(cost: dict[str, Any]) -> Iterator[str]:
    many, ratio, fairness, idle = cost["tenants"], cost["ratio"], cost["jain"], cost["idle_kib"]
    yield f"{many} guests, tokens a second"
    yield f"  of one tenant {cost['one']:.1f}, of as many tenants {cost['many']:.1f}"
    yield f"  goal: a ratio of {RATIO_GOAL:g}: {_said(ratio >= RATIO_GOAL)}, {ratio:.3f}"
    yield f"  goal: Jain's index of {JAIN_GOAL:g}: {_said(fairness >= JAIN_GOAL)}, {fairness:.4f}"
    if idle is not None:
        yield f"  goal: an idle tenant under 1 MiB: {_said(idle < IDLE_GOAL_KIB)}, {idle:.1f} KiB"
    yield f"  a guest module of a tenant's own: {_figure(cost['own_module_kib'])} KiB more"
    yield f"  an active tenant: {_figure(cost['active_kib'])} KiB"


def _said(reached: bool) -> str:
    return "reached" if reached else "missed"


def _figure(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
