"""`realm bench abi` measures all that it says, on any machine; how fast that is, no test asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from realm_abi.sandbox import Runtime, fibers_work
from realm_reference.bench import sessions, tenants
from realm_reference.bench.nullhost import NullHost, Shape
from realm_reference.bench.plainloop import SAMPLINGS, generate
from realm_reference.bench.tokens import WAYS, TokenBench
from realm_reference.commands import bench

QUICK = ("--repeat", "1", "--tokens", "3", "--calls", "20", "--sandboxes", "3")
SMALL = Shape(layers=2, hidden=8, vocab=3_000)


def bench_abi(output: Path, *options: str) -> tuple[dict[str, Any], str]:
    result = CliRunner().invoke(bench, ["abi", *QUICK, *options, "--json", str(output)])
    assert result.exit_code == 0, result.output
    figures: dict[str, Any] = json.loads(output.read_text())
    return figures, result.output


def times(figures: object) -> Iterator[float]:
    """All figures whose names or places say that they are times."""
    if isinstance(figures, dict):
        for value in figures.values():
            yield from times(value)
    elif isinstance(figures, list):
        for value in figures:
            yield from times(value)
    elif isinstance(figures, float):
        yield figures


def test_every_figure_is_there(tiny_gguf: Path, tmp_path: Path) -> None:
    figures, text = bench_abi(tmp_path / "bench.json", "--model", str(tiny_gguf))
    assert figures["schema"] == "realm-bench-abi/1"
    assert figures["machine"]["platform"]
    assert figures["versions"].keys() >= {"python", "wasmtime", "numpy", "realm-harness"}
    assert figures["settings"]["seed"] == 7
    calls = {call["function"] for call in figures["calls_us"]}
    assert calls == {"realm_forward_layer", "realm_forward", "realm_decode"}
    assert all(call.keys() >= {"guarded", "unguarded", "define_func"} for call in figures["calls_us"])
    assert [cost["sampling"] for cost in figures["tokens_us"]] == [sampling.name for sampling in SAMPLINGS]
    assert all(cost.keys() >= {*WAYS, "v1_percent", "v2_percent"} for cost in figures["tokens_us"])
    assert figures["model"]["name"] == tiny_gguf.stem
    assert figures["sandbox"]["alive"] == 3
    assert all(time > 0 for part in ("calls_us", "tokens_us", "model") for time in times(figures[part]))
    for name in ("guarded", "plain v2", "goal: v1 under 3 %", "target: v2 within 50 us", "aot_load_ms"):
        assert name in text


def test_without_a_model_there_are_no_shares(tmp_path: Path) -> None:
    figures, text = bench_abi(tmp_path / "bench.json", "--no-model")
    assert figures["model"] is None
    assert {cost["v2_percent"] for cost in figures["tokens_us"]} == {None}
    assert "goal" not in text


def test_a_model_that_is_not_there_is_one_line() -> None:
    result = CliRunner().invoke(bench, ["abi", *QUICK, "--model", "no-such-model.gguf"])
    assert result.exit_code == 2
    assert "no-such-model.gguf" in result.output
    assert "--no-model" in result.output


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda sampling: sampling.name)
def test_the_plain_loop_is_the_guests_loop(sampling: Any) -> None:
    """What is compared has to do the same: the same tokens from v2, and from v1 as many."""
    bench = TokenBench(Runtime(), SMALL, 11, 24)
    (_, guest), (_, plain), (_, layered) = (
        bench.run(way, sampling) for way in ("v2", "plain_v2", "plain_v1")
    )
    assert guest == plain == layered
    assert len(guest) == 24
    assert bench.run("v1", sampling)[0] > 0


def test_the_null_model_answers_its_rows_in_turn() -> None:
    rows = np.eye(2, SMALL.vocab, dtype=np.float32)
    host = NullHost(SMALL, rows)
    made = generate(host, SMALL, "p", SAMPLINGS[0], seed=1, max_tokens=4, layered=False)
    assert made == host.tokens == [1, 0, 1, 0]
    assert len(host.stamps_ns) == 4


def test_bench_fairness_measures_a_light_tenant_beside_a_flood(tiny_gguf: Path, tmp_path: Path) -> None:
    output = tmp_path / "fairness.json"
    few = ("--flood", "4", "--rounds", "2", "--requests", "3", "--words", "20")
    result = CliRunner().invoke(bench, ["fairness", "--model", str(tiny_gguf), *few, "--json", str(output)])
    assert result.exit_code == 0, result.output
    figures = json.loads(output.read_text())
    assert [len(times) for times in figures["ttft_ms"]["alone"] + figures["ttft_ms"]["flooded"]] == [3] * 4
    assert all(figures["ttft_ms"]["own"])
    assert all(time > 0 for time in times(figures["ttft_ms"]))
    summary = figures["summary"]
    assert summary["ratio_p99"] == summary["flooded"]["p99"] / summary["alone"]["p99"]
    assert f"p99 {summary['ratio_p99']:.2f}" in result.output


def test_bench_fairness_without_a_model_is_one_line() -> None:
    result = CliRunner().invoke(bench, ["fairness", "--model", "nothing.gguf", "--rounds", "1"])
    assert (result.exit_code, result.output.strip()) == (2, "Error: realm serve did not start")


def test_the_engine_is_measured_with_all_that_it_says(tiny_gguf: Path, tmp_path: Path) -> None:
    output = tmp_path / "engine.json"
    quick = (
        "--batch",
        "1",
        "--batch",
        "2",
        "--tokens",
        "4",
        "--repeat",
        "1",
        "--tenants",
        "3",
        "--sessions",
        "60",
    )
    command = ["engine", "--model", str(tiny_gguf), "--compute", "numpy", *quick, "--json", str(output)]
    result = CliRunner().invoke(bench, command)
    assert result.exit_code == 0, result.output
    figures = json.loads(output.read_text())
    assert figures["schema"] == "realm-bench-engine/1"
    assert [cost["batch"] for cost in figures["batches"]] == [1, 2]
    assert all(cost[what] > 0 for cost in figures["batches"] for what in ("model", "engine", "guests"))
    waited = {(cost["guests"], cost["way"]) for cost in figures["waiting_us"]}
    ways = {"none", "threads", *(["fibers"] if fibers_work() else [])}
    assert waited == {(guests, way) for guests in (1, 32) for way in ways}
    assert all(cost["us"] > 0 and cost["cpu_us"] > 0 for cost in figures["waiting_us"])
    assert figures["tenants"]["tenants"] == 3
    assert 0 < figures["tenants"]["jain"] <= 1
    for name in (
        "engine %",
        "32 at once, on threads",
        "a ratio of 0.97",
        "Jain's index of 0.95",
        "a tenant's own",
        "pages_held",
    ):
        assert name in result.output


def test_no_session_leaves_anything_behind() -> None:
    left = sessions.measure(800, seed=3)
    assert left.sessions >= 800
    assert left.preemptions > 0
    assert left.prefix_hit_tokens > 0
    assert (left.wrong, left.pages_held, left.sessions_open) == (0, 0, 0)


@pytest.mark.parametrize(
    ("shares", "index"), [([5, 5, 5], 1.0), ([3, 0, 0], 1 / 3), ([2, 1], 0.9), ([0, 0], 0.0)]
)
def test_jains_index(shares: list[float], index: float) -> None:
    assert tenants.jain(shares) == pytest.approx(index)
