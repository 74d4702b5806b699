"""Measure the plain runner on a GPU beside transformers on the same GPU, and write a dated table.

    python ci/gpu_table.py --check             exit 2, saying why, where nothing can be measured
    python ci/gpu_table.py [--rounds 5]        adds a table to docs/gpu.md

Both sides run the same GGUF file in float32 and take turns; a figure is the median of the rounds. The bound
is the measured bandwidth of a copy on the device over the bytes of the weights, which one token of a batch of
one has to read once. `--backend numpy` measures the host instead: a rehearsal of the script.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "reference"))

from realm_reference.compute.cuda import cupy_arrays, cupy_fault  # noqa: E402
from realm_reference.compute.numpy import Arrays, numpy_arrays  # noqa: E402
from realm_reference.model.array_runner import ArrayRunner  # noqa: E402
from realm_reference.model.config import LlamaConfig  # noqa: E402
from realm_reference.model.gguf import GGUFFile, open_gguf  # noqa: E402
from realm_reference.model.runner import PAGE, Chunk  # noqa: E402
from realm_reference.model.store import locate  # noqa: E402
from realm_reference.model.transformer import Transformer  # noqa: E402
from realm_reference.model.weights import load_weights  # noqa: E402

_PROMPT, _TOKENS, _COPY_BYTES = 256, 32, 1 << 28
_HEAD = (
    "| work | ours, tokens/s | transformers, tokens/s | ratio | share of the bound |\n|---|---|---|---|---|\n"
)


Side: TypeAlias = "Callable[[Work], float]"
"""Does a work once and gives the seconds that it took."""


@dataclass(frozen=True)
class Work:
    """So many sequences of `_PROMPT` tokens: their prefill, or `_TOKENS` tokens of each after it."""

    name: str
    batch: int
    decode: bool

    @property
    def tokens(self) -> int:
        """What the rate counts."""
        return self.batch * (_TOKENS if self.decode else _PROMPT)


WORKS: Final = (Work("prefill of 256", 1, False), Work("decode, 1", 1, True), Work("decode, 16", 16, True))


def main() -> None:
    """Read the command line; check or measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only say whether there is a GPU")
    parser.add_argument("--backend", choices=["cupy", "numpy"], default="cupy")
    parser.add_argument("--model", default="smollm2-135m", help="a known model or a GGUF file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "gpu.md")
    options = parser.parse_args()
    fault = cupy_fault() if options.backend == "cupy" else None
    if fault is not None:
        parser.exit(2, f"ci/gpu needs a CUDA GPU and CuPy: {fault}\n")
    if options.check:
        return
    on_gpu = options.backend == "cupy"
    arrays = cupy_arrays() if on_gpu else numpy_arrays()
    file = open_gguf(locate(options.model))
    weights = 4 * sum(file.count(name) for name in file.tensors)
    sides = {"ours": plain_runner(file, arrays)}
    if find_spec("torch") is not None and find_spec("transformers") is not None:
        sides["transformers"] = transformers_model(file.path, "cuda" if on_gpu else "cpu")
    rates = measure(sides, options.rounds)
    lines = table(rates, copy_bandwidth(arrays) / weights)
    title = f"## {datetime.now(UTC).date()}: {device_name(on_gpu)}, {file.path.name}, float32\n\n"
    with options.out.open("a", encoding="utf-8") as out:
        out.write(f"\n{title}{lines}")
    print(title + lines)


def plain_runner(file: GGUFFile, arrays: Arrays) -> Side:
    """The runner of `realm serve --gpu`: every step's logits come back to the host, which ends the step."""
    config = LlamaConfig.from_gguf(file)
    runner = ArrayRunner(Transformer(config, load_weights(file, config, arrays), arrays))
    held = -(-(_PROMPT + _TOKENS) // PAGE)
    runner.reserve(held * max(work.batch for work in WORKS))

    def step(sequences: int, ids: np.ndarray, position: int) -> None:
        pages = np.arange(held * sequences, dtype=np.int32).reshape(sequences, held)
        runner.step([Chunk(ids, position, own, rows=1) for own in pages])

    def run(work: Work) -> float:
        prompt = np.arange(_PROMPT, dtype=np.int32) % runner.vocab_size
        start = time.perf_counter()
        step(work.batch, prompt, 0)
        if work.decode:
            start = time.perf_counter()
            for position in range(_PROMPT, _PROMPT + _TOKENS):
                step(work.batch, prompt[:1], position)
        return time.perf_counter() - start

    return run


def transformers_model(path: Path, device: str) -> Side:
    """Hugging Face transformers with its own cache, each step's logits brought to the host as ours are."""
    torch, transformers = import_module("torch"), import_module("transformers")
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval().to(device)

    def step(ids: Any, cache: Any) -> Any:
        output = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        output.logits.cpu()
        return output.past_key_values

    def run(work: Work) -> float:
        prompt = torch.arange(_PROMPT, device=device).repeat(work.batch, 1) % model.config.vocab_size
        with torch.inference_mode():
            start = time.perf_counter()
            cache = step(prompt, None)
            if work.decode:
                start = time.perf_counter()
                for _ in range(_TOKENS):
                    cache = step(prompt[:, :1], cache)
            return time.perf_counter() - start

    return run


def measure(sides: dict[str, Side], rounds: int) -> dict[tuple[str, str], float]:
    """Median tokens a second by work and side; a first round that warms up does not count."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        for work in WORKS:
            for name, side in sides.items():
                took = side(work)
                if number > 0:
                    seconds.setdefault((work.name, name), []).append(took)
    by_name = {work.name: work.tokens for work in WORKS}
    return {key: by_name[key[0]] / statistics.median(took) for key, took in seconds.items()}


def copy_bandwidth(arrays: Arrays) -> float:
    """Bytes a second that a copy on the device moves, read and written ones together; the best of five."""
    xp = arrays.xp
    source = xp.zeros(_COPY_BYTES // 4, dtype=xp.float32, device=arrays.device)
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        copy = xp.asarray(source, copy=True)
        arrays.to_numpy(copy[-1:])  # waits for the copy
        best = min(best, time.perf_counter() - start)
    return 2 * _COPY_BYTES / best


def table(rates: dict[tuple[str, str], float], bound: float) -> str:
    """Markdown; the share of the bound is of a batch of one's decode, which reads all weights for a token."""
    lines = [_HEAD]
    for work in WORKS:
        ours, theirs = rates[work.name, "ours"], rates.get((work.name, "transformers"))
        ratio = "not measured | -" if theirs is None else f"{theirs:.0f} | {ours / theirs:.2f}"
        share = f"{ours / bound:.1%}" if work.decode and work.batch == 1 else "-"
        lines.append(f"| {work.name} | {ours:.0f} | {ratio} | {share} |\n")
    return "".join(lines)


def device_name(on_gpu: bool) -> str:
    """What was measured."""
    if not on_gpu:
        return "the host (a rehearsal)"
    cupy = import_module("cupy")
    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    return f"{name}, CuPy {cupy.__version__}"


if __name__ == "__main__":
    main()
