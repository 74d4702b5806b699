"""All of `realm bench abi`: one run, its figures as JSON and as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from realm_abi.sandbox import Runtime

from realm_reference.bench import hostcalls, sandboxes, tokens
from realm_reference.bench.header import header, lines, settings_line
from realm_reference.bench.nullhost import Shape
from realm_reference.model.transformer import Transformer

SCHEMA = "realm-bench-abi/1"
GOALS = {"v1": 3.0, "v2": 1.0}
"""Percent of a real token's time that its orchestration may take."""
TARGET_US = 50.0
"""Microseconds of orchestration a token that v2 aims at, batch 1."""


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    repeat: int = 9
    tokens: int = 64
    calls: int = 2_000
    sandboxes: int = 1_000
    seed: int = 7


def run(settings: Settings, transformer: Transformer | None, model_name: str | None) -> dict[str, Any]:
    """Measures everything; the keys are those of the JSON. Times are medians, in the units of their names."""
    shape, runtime = Shape(), Runtime()
    # First, while nothing else has grown the process: it looks at the process's memory.
    sandbox = sandboxes.measure(shape, settings.sandboxes, settings.repeat)
    calls = hostcalls.measure(runtime, shape, settings.calls, settings.repeat)
    bench = tokens.TokenBench(runtime, shape, settings.seed, settings.tokens)
    costs, real_us = tokens.measure(bench, transformer, settings.repeat)
    return {
        **header(SCHEMA, "wasmtime", "numpy"),
        "settings": asdict(settings),
        "shape": asdict(shape),
        "calls_us": [asdict(cost) for cost in calls],
        "tokens_us": [asdict(cost) | _verdict(cost, real_us) for cost in costs],
        "model": {"name": model_name, "token_us": real_us} if model_name else None,
        "sandbox": asdict(sandbox),
    }


def _verdict(cost: tokens.TokenCost, real_us: float | None) -> dict[str, float | bool | None]:
    """The shares of a real token's time, and what became of the goals."""
    shares: dict[str, float | None] = {}
    for way in GOALS:
        spent: float | None = getattr(cost, way)
        shares[f"{way}_percent"] = None if real_us is None or spent is None else 100 * spent / real_us
    reached = {
        f"{way}_reaches_goal": None if share is None else share < GOALS[way]
        for way, share in zip(GOALS, shares.values(), strict=True)
    }
    return shares | reached | {"v2_reaches_target": cost.v2 <= TARGET_US}


def table(result: dict[str, Any]) -> Iterator[str]:
    """The figures as lines for people."""
    yield from lines(result)
    yield settings_line(result)
    yield ""
    yield f"{'a host call, us':<24}{'guarded':>12}{'unguarded':>12}{'define_func':>12}"
    for call in result["calls_us"]:
        yield f"{call['function']:<24}" + "".join(
            f"{call[way]:>12.2f}" for way in ("guarded", "unguarded", "define_func")
        )
    yield ""
    yield f"{'a token, us':<24}{'v1':>12}{'plain v1':>12}{'v2':>12}{'plain v2':>12}{'v1 %':>8}{'v2 %':>8}"
    for cost in result["tokens_us"]:
        figures = "".join(_time(cost[way]) for way in ("v1", "plain_v1", "v2", "plain_v2"))
        yield f"{cost['sampling']:<24}{figures}{_percent(cost['v1_percent'])}{_percent(cost['v2_percent'])}"
    yield from _verdicts(result)
    yield ""
    yield "a tenant's sandbox (v2 guest)"
    yield from (f"  {name:<22}{_figure(value):>14}" for name, value in result["sandbox"].items())


def _verdicts(result: dict[str, Any]) -> Iterator[str]:
    model, costs = result["model"], result["tokens_us"]
    if model:
        yield f"% of a token of {model['name']} on NumPy, {model['token_us']:.0f} us in this run"
        for way, goal in GOALS.items():
            worst = max(cost[f"{way}_percent"] or 0 for cost in costs)
            said = "reached" if worst < goal else "missed"
            yield f"goal: {way} under {goal:g} %: {said}, {worst:.2f} % at worst"
    missed = [cost["sampling"] for cost in costs if not cost["v2_reaches_target"]]
    said = f"missed with {'; '.join(missed)}" if missed else "reached"
    yield f"target: v2 within {TARGET_US:g} us a token: {said}"
    if not all(cost["same_tokens"] for cost in costs):
        yield "v2 and the plain loop drew different tokens: rounding at the border of a draw"


def _time(value: float | None) -> str:
    return f"{'-':>12}" if value is None else f"{value:>12.1f}"


def _percent(value: float | None) -> str:
    return f"{'-':>8}" if value is None else f"{value:>8.2f}"


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value}" if isinstance(value, int) else f"{value:.3f}"
