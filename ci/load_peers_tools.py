"""The load tools that `load_peers_table.py` compares: how each is started, where it writes what it saw."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

Figures = dict[str, float]
"""Milliseconds by name: ttft_p50, ttft_p99, itl_p50, itl_p99."""

ROOT: Final = Path(__file__).resolve().parent.parent
SEED: Final = 7
_WORDS: Final = 1000
_PROMPTS: Final = 20_000


@dataclass(frozen=True)
class Load:
    """What a tool is asked for; `requests` are about as many as fit into `seconds`."""

    url: str
    streams: int
    seconds: int
    requests: int
    folder: Path
    """Where the tool may write; `tokenizer/`, `prompts.txt` and `peers` are there already."""


@dataclass(frozen=True)
class Tool:
    """A tool: its command for a load, and what it reported. `home` is its environment; None: ours."""

    name: str
    home: Path | None
    command: Callable[[Load], list[str]]
    read: Callable[[Path], dict[str, Figures]]

    @property
    def missing(self) -> str | None:
        """Why it cannot be run; None if it can."""
        if self.home is None or (self.home / "bin" / self.name).exists():
            return None
        why = self.home / "why"
        errors = [line for line in why.read_text().splitlines() if "ERROR" in line] if why.exists() else []
        return errors[-1] if errors else "not installed"

    @property
    def version(self) -> str:
        """The version of its package."""
        package = {"realm load": "realm-harness"}.get(self.name, self.name)
        python = str(self.home / "bin" / "python") if self.home else sys.executable
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def tools(peers: Path) -> list[Tool]:
    """All of them, ours first."""
    return [
        Tool("realm load", None, _realm, _read_realm),
        Tool("aiohttp", None, _aiohttp, _read_aiohttp),
        Tool("inference-perf", peers / "inference-perf", _inference_perf(peers), _read_inference_perf),
        Tool("guidellm", peers / "guidellm", _guidellm(peers), _read_guidellm),
        Tool("aiperf", peers / "aiperf", _aiperf(peers), _read_aiperf),
    ]


def prepare(folder: Path) -> None:
    """A tokenizer and prompts that need no network: words `w0`, `w1`, and the emitter's one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = ["[UNK]", "[EOS]", "token", *(f"w{number}" for number in range(_WORDS))]
    tokenizer = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    home = folder / "tokenizer"
    home.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(home / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]", "eos_token": "[EOS]"}
    (home / "tokenizer_config.json").write_text(json.dumps(config))
    lines = (f"w{number % _WORDS} w{number // _WORDS} w2\n" for number in range(_PROMPTS))
    (folder / "prompts.txt").write_text("".join(lines))


def percentiles(name: str, values_ms: list[float]) -> Figures:
    """The p50 and p99 of a figure, by nearest rank."""
    p50, p99 = np.percentile(values_ms, [50, 99], method="inverted_cdf")
    return {f"{name}_p50": float(p50), f"{name}_p99": float(p99)}


def _realm(load: Load) -> list[str]:
    code = "from realm_loadtests.commands.load import load; load()"
    more = ["--duration", f"{load.seconds}s", "--seed", str(SEED), "--out", str(load.folder / "out")]
    return [sys.executable, "-c", code, load.url, "--users", str(load.streams), *more]


def _read_realm(folder: Path) -> dict[str, Figures]:
    figures = json.loads((folder / "out" / "load.json").read_text())["figures"]
    found = {(name, rank): figures[f"{name}_ms"][rank] for name in ("ttft", "itl") for rank in ("p50", "p99")}
    return {"": {f"{name}_{rank}": value for (name, rank), value in found.items()}}


def _aiohttp(load: Load) -> list[str]:
    script = str(ROOT / "ci" / "load_peers_aiohttp.py")
    return [sys.executable, script, load.url, str(load.streams), str(load.seconds)]


def _read_aiohttp(folder: Path) -> dict[str, Figures]:
    seen = json.loads((folder / "stdout").read_text())
    return {"": percentiles("ttft", seen["ttft"]) | percentiles("itl", seen["itl"])}


def _inference_perf(peers: Path) -> Callable[[Load], list[str]]:
    def command(load: Load) -> list[str]:
        stage = {"num_requests": load.requests, "concurrency_level": load.streams}
        config = {
            "load": {"type": "concurrent", "stages": [stage]},
            "api": {"type": "chat", "streaming": True},
            "server": {"type": "vllm", "model_name": "emitter-1", "base_url": load.url, "ignore_eos": True},
            "data": {"type": "mock"},
            "tokenizer": {"pretrained_model_name_or_path": str(load.folder / "tokenizer")},
            "report": {"request_lifecycle": {"summary": True, "per_stage": False, "per_request": False}},
            "storage": {"local_storage": {"path": str(load.folder / "out")}},
        }
        written = load.folder / "inference-perf.yaml"
        written.write_text(json.dumps(config))  # which YAML is a superset of
        return [str(peers / "inference-perf" / "bin" / "inference-perf"), "-c", str(written)]

    return command


def _read_inference_perf(folder: Path) -> dict[str, Figures]:
    document = json.loads((folder / "out" / "summary_lifecycle_metrics.json").read_text())
    latency = document["successes"]["latency"]
    names = {"ttft": "time_to_first_token", "itl": "inter_token_latency"}
    ranks = {"p50": "median", "p99": "p99"}
    return {"": {f"{n}_{r}": 1e3 * latency[names[n]][ranks[r]] for n in names for r in ranks}}


def _guidellm(peers: Path) -> Callable[[Load], list[str]]:
    def command(load: Load) -> list[str]:
        options = {
            "--backend": f"kind=openai_http,target={load.url},model=emitter-1",
            "--profile": f"kind=concurrent,streams={load.streams}",
            "--constraint": f"kind=max_duration,seconds={load.seconds}",
            "--tokenizer": f"kind=huggingface_auto,model={load.folder / 'tokenizer'}",
            "--data": f"kind=text_file,path={load.folder / 'prompts.txt'}",
            "--output": f"kind=json,path={load.folder / 'guidellm.json'}",
        }
        flat = [part for option in options.items() for part in option]
        return [str(peers / "guidellm" / "bin" / "guidellm"), "run", *flat, "--disable-console-interactive"]

    return command


def _read_guidellm(folder: Path) -> dict[str, Figures]:
    metrics = json.loads((folder / "guidellm.json").read_text())["benchmarks"][0]["metrics"]
    names = {"ttft": "time_to_first_token_ms", "itl": "inter_token_latency_ms"}
    found = {name: metrics[long]["successful"]["percentiles"] for name, long in names.items()}
    return {"": {f"{n}_{rank}": found[n][rank] for n in names for rank in ("p50", "p99")}}


def _aiperf(peers: Path) -> Callable[[Load], list[str]]:
    def command(load: Load) -> list[str]:
        options: dict[str, Any] = {
            "--model": "emitter-1",
            "--url": load.url,
            "--endpoint-type": "chat",
            "--concurrency": load.streams,
            "--benchmark-duration": load.seconds,
            "--tokenizer": load.folder / "tokenizer",
            "--isl": 16,
            "--random-seed": SEED,
            "--ui": "none",
            "--artifact-dir": load.folder / "out",
        }
        flat = [str(part) for option in options.items() for part in option]
        switches = ["--streaming", "--no-gpu-telemetry", "--no-server-metrics"]
        return [str(peers / "aiperf" / "bin" / "aiperf"), "profile", *flat, *switches]

    return command


def _read_aiperf(folder: Path) -> dict[str, Figures]:
    """Its ITL is a mean of each request; a second row has its figure of single chunks."""
    document = json.loads((folder / "out" / "profile_export_aiperf.json").read_text())

    def row(itl: str) -> Figures:
        names = {"ttft": "time_to_first_token", "itl": itl}
        return {f"{n}_{rank}": document[names[n]][rank] for n in names for rank in ("p50", "p99")}

    return {"": row("inter_token_latency"), ", its inter-chunk latency": row("inter_chunk_latency")}


def median(rounds: list[Figures]) -> Figures:
    """The median of each figure over rounds."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
