"""All of `realm bench peers`: our compiled path beside llama.cpp, the same file and threads, in turns.

Both compute the same tasks, and nothing samples. A round runs every task on every side, each round beginning
with another side; a ratio is the median of the rounds' ratios, so that what the machine does besides falls on
both. llama.cpp runs the file as it is and, as its best, requantised to Q4_0.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from realm_reference.bench import servers
from realm_reference.bench.bandwidth import read_bandwidth
from realm_reference.bench.header import header, lines
from realm_reference.bench.sides import Side, own_command, peer_command
from realm_reference.model.store import locate

SCHEMA: Final = "realm-bench-peers/1"
LLAMA, BEST = "llama.cpp", "llama.cpp Q4_0"
OWN: Final = ("exact", "int8")
HTTP: Final = "16 HTTP streams"
STREAMS: Final = 16


@dataclass(frozen=True)
class Workload:
    """A task of a side, its arguments, and the tokens that it makes or reads."""

    name: str
    task: str
    arguments: dict[str, int]
    tokens: int


WORKLOADS: Final = (
    Workload("decode, batch 1", "decode", {"rows": 1, "steps": 32, "context": 64}, 32),
    Workload("decode, batch 16", "decode", {"rows": 16, "steps": 8, "context": 64}, 128),
    Workload("prefill 256", "prefill", {"tokens": 256}, 256),
)
GOALS: Final = {
    ("decode, batch 1", "exact"): 1.8,
    ("decode, batch 1", "int8"): 1.8,
    ("decode, batch 16", "exact"): 2.2,
    ("decode, batch 16", "int8"): 3.0,
    ("prefill 256", "exact"): 1.8,
    ("prefill 256", "int8"): 3.5,
    (HTTP, "exact"): 2.0,
    (HTTP, "int8"): 2.0,
}
"""Times llama.cpp's tokens a second on the same file; int8 aims at its best format, too."""

Rates = dict[str, dict[str, list[float]]]  # tokens a second by workload, side and round


@dataclass(frozen=True)
class Settings:
    """What is compared, and how often. `python` is the peer's interpreter."""

    model: str
    python: Path
    threads: int = 2
    rounds: int = 7
    http_rounds: int = 3
    http_tokens: int = 64
    seed: int = 7


def run(settings: Settings) -> dict[str, Any]:
    """Measures everything; the keys are those of the JSON.

    Raises SideFailed or BenchError, each with one line, if a side cannot be had.
    """
    path = locate(settings.model)
    bandwidth = read_bandwidth(settings.threads)
    rates, sides = _engines(settings, path)
    if settings.http_rounds:
        rates[HTTP], of_servers = asyncio.run(servers.measure(settings, path))
        sides |= of_servers
    return {
        **header(SCHEMA, "numpy", "numba", read_bytes_per_s=bandwidth),
        "settings": {name: str(value) for name, value in asdict(settings).items()},
        "model": {"name": path.name, "bytes": path.stat().st_size},
        "sides": sides,
        "rates": rates,
        "summary": summary(rates),
    }


def _engines(settings: Settings, path: Path) -> tuple[Rates, dict[str, Any]]:
    """The rates of the engines alone, and what else there is to say of each side."""
    commands = {name: own_command(str(path), "jit", name, settings.threads) for name in OWN}
    commands[LLAMA] = peer_command(settings.python, path, settings.threads)
    commands[BEST] = peer_command(settings.python, path, settings.threads, "requantised")
    rates: Rates = {work.name: {name: [] for name in commands} for work in WORKLOADS}
    with ExitStack() as stack:
        for name in OWN:  # what has to be compiled or packed is, so that the start below is a second one
            with Side(name, commands[name]):
                pass
        sides = [stack.enter_context(Side(name, command)) for name, command in commands.items()]
        for turn in range(-1, settings.rounds):  # the first is for warmth and does not count
            for work in WORKLOADS:
                for side in _rotated(sides, turn):
                    seconds = side.seconds(work.task, **work.arguments)
                    if turn >= 0:
                        rates[work.name][side.name].append(work.tokens / seconds)
        said = {
            side.name: {**side.told, "start_s": side.start_s, "resident_mib": side.resident_mib}
            for side in sides
        }
    return rates, said


def _rotated(sides: Sequence[Side], turn: int) -> list[Side]:
    begin = turn % len(sides)
    return [*sides[begin:], *sides[:begin]]


def summary(rates: Rates) -> dict[str, Any]:
    """Medians, the ratios to llama.cpp and to its best format, and what became of the goals."""
    medians = {
        work: {side: statistics.median(values) for side, values in sides.items()}
        for work, sides in rates.items()
    }
    ratios = {
        work: {f"{own} / {peer}": _ratio(sides, own, peer) for own in OWN for peer in _peers(sides)}
        for work, sides in rates.items()
    }
    goals = [
        {
            "workload": work,
            "side": own,
            "against": LLAMA,
            "goal": goal,
            "ratio": ratios[work][f"{own} / {LLAMA}"],
        }
        for (work, own), goal in GOALS.items()
        if work in rates
    ]
    goals += [
        {
            "workload": work,
            "side": "int8",
            "against": BEST,
            "goal": 1.0,
            "ratio": ratios[work][f"int8 / {BEST}"],
        }
        for work in rates
        if BEST in rates[work]
    ]
    return {"tokens_per_s": medians, "ratios": ratios, "goals": goals}


def _peers(sides: dict[str, list[float]]) -> list[str]:
    return [name for name in (LLAMA, BEST) if name in sides]


def _ratio(sides: dict[str, list[float]], own: str, peer: str) -> float:
    return statistics.median(a / b for a, b in zip(sides[own], sides[peer], strict=True))


def table(result: dict[str, Any]) -> Iterator[str]:
    """The figures as lines for people."""
    machine, settings, figures = result["machine"], result["settings"], result["summary"]
    yield from lines(result)
    yield f"{result['model']['name']}, {settings['threads']} threads, medians of {settings['rounds']} rounds"
    yield ""
    names = [*OWN, LLAMA, BEST]
    yield f"{'tokens/s':<20}" + "".join(f"{name:>16}" for name in names)
    for work, rates in figures["tokens_per_s"].items():
        yield f"{work:<20}" + "".join(_cell(rates.get(name), 0) for name in names)
    yield f"{'resident, MiB':<20}" + "".join(_cell(_said(result, n, "resident_mib"), 0) for n in names)
    yield f"{'second start, s':<20}" + "".join(_cell(_said(result, n, "start_s"), 1) for n in names)
    yield f"{'of the bound, %':<20}" + "".join(_cell(_share(result, name), 0) for name in names)
    yield (
        f"  the bound: {machine['read_bytes_per_s'] / 1e9:.1f} GB/s read from memory here, all weights once a"
        " token of batch 1"
    )
    yield from _servers(result)
    yield ""
    for goal in figures["goals"]:
        verdict = "reached" if goal["ratio"] >= goal["goal"] else "missed"
        yield (
            f"{goal['workload']}, {goal['side']}: {goal['ratio']:.2f} x {goal['against']},"
            f" goal {goal['goal']:g}: {verdict}"
        )


def _servers(result: dict[str, Any]) -> Iterator[str]:
    for name, said in result["sides"].items():
        if name.startswith("server: "):
            yield f"{name}: {_cell(said['resident_mib'], 0).strip()} MiB, started in {said['start_s']:.1f} s"


def _said(result: dict[str, Any], side: str, what: str) -> float | None:
    found: float | None = result["sides"].get(side, {}).get(what)
    return found


def _share(result: dict[str, Any], side: str) -> float | None:
    """Percent of the bytes that memory gives in the time of a token which its weights are."""
    own = result["sides"][side].get("bytes")
    size = own if side in OWN else result["model"]["bytes"] if side == LLAMA else None
    if size is None:
        return None
    rate = result["summary"]["tokens_per_s"][WORKLOADS[0].name][side]
    return float(100 * rate * size / result["machine"]["read_bytes_per_s"])


def _cell(value: float | None, digits: int) -> str:
    return f"{'-':>16}" if value is None else f"{value:>16.{digits}f}"
