"""A token's orchestration, sandboxed and plain, beside a real model's token: all in one run, in turns."""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from realm_abi.errors import FinishReason
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import Runtime

from realm_reference.bench.nullhost import NullHost, Shape
from realm_reference.bench.plainloop import SAMPLINGS, Sampling, generate
from realm_reference.model.transformer import Transformer

PROMPT = "What does a token cost?"
PREPARED_ROWS = 16
REAL_TOKENS = 4
WAYS = ("v1", "v2", "plain_v1", "plain_v2")
WAYS_WITH_MIN_P = ("v2", "plain_v2")


@dataclass(frozen=True)
class TokenCost:
    """Medians of one sampling, microseconds a token. `plain_*` is the same loop without a sandbox.

    What v1 cannot ask for has no figures there.
    """

    sampling: str
    v1: float | None
    v2: float
    plain_v1: float | None
    plain_v2: float
    same_tokens: bool
    """Whether v2 and the plain loop drew the same tokens."""


class TokenBench:
    """Guests v1 and v2 and the plain loop on one null model."""

    def __init__(self, runtime: Runtime, shape: Shape, seed: int, tokens: int) -> None:
        self._runtime = runtime
        self._shape = shape
        self._seed = seed
        self._tokens = max(2, tokens)
        draw = np.random.default_rng(seed)
        self._logits = draw.standard_normal((PREPARED_ROWS, shape.vocab), np.float32) * np.float32(2.5)
        self._modules = {version: runtime.compile(guest_bytes(version)) for version in ("v1", "v2")}

    def run(self, way: str, sampling: Sampling) -> tuple[float, list[int]]:
        """Microseconds a token, from the first token handed on to the last; and the tokens, where known."""
        host = NullHost(self._shape, self._logits)
        if way.startswith("plain"):
            layered = way == "plain_v1"
            tokens = generate(
                host, self._shape, PROMPT, sampling,
                seed=self._seed, max_tokens=self._tokens, layered=layered,
            )  # fmt: skip
        else:
            self._run_guest(way, host, sampling)
            tokens = host.tokens
        return (host.stamps_ns[-1] - host.stamps_ns[0]) / (self._tokens - 1) / 1e3, tokens

    def _run_guest(self, version: str, host: NullHost, sampling: Sampling) -> None:
        with closing(self._runtime.instantiate(self._modules[version], host)) as instance:
            if version == "v1":
                instance.generate_v1(
                    PROMPT, 1,
                    {
                        "max_tokens": self._tokens, "temperature": sampling.temperature,
                        "top_k": sampling.top_k, "top_p": sampling.top_p, "seed": self._seed,
                        "repetition_penalty": 1.0,
                    },
                )  # fmt: skip
                return
            answer = instance.generate_v2(
                PROMPT, model=1, max_tokens=self._tokens, temperature=sampling.temperature,
                top_k=sampling.top_k, top_p=sampling.top_p, min_p=sampling.min_p, seed=self._seed,
                repetition_penalty=1.0,
            )  # fmt: skip
            if answer != FinishReason.max_tokens:
                raise RuntimeError(f"the guest ended with {answer}")


def measure(
    bench: TokenBench, transformer: Transformer | None, repeat: int
) -> tuple[list[TokenCost], float | None]:
    """The costs, and a real token's microseconds if there is a model; every round has all of them in turn."""
    times: dict[tuple[str, str], list[float]] = {}
    tokens: dict[tuple[str, str], list[int]] = {}
    real: list[float] = []
    for _ in range(repeat):
        for sampling in SAMPLINGS:
            for way in WAYS_WITH_MIN_P if sampling.min_p else WAYS:
                spent, tokens[sampling.name, way] = bench.run(way, sampling)
                times.setdefault((sampling.name, way), []).append(spent)
        if transformer is not None:
            real.append(_real_token(transformer))
    costs = []
    for name in (sampling.name for sampling in SAMPLINGS):
        medians = {way: statistics.median(spent) for (of, way), spent in times.items() if of == name}
        costs.append(
            TokenCost(
                name, medians.get("v1"), medians["v2"], medians.get("plain_v1"), medians["plain_v2"],
                same_tokens=tokens[name, "v2"] == tokens[name, "plain_v2"],
            )
        )  # fmt: skip
    return costs, statistics.median(real) if real else None


def _real_token(transformer: Transformer) -> float:
    """Microseconds of one token through the model, after a prompt."""
    cache = transformer.new_cache()
    transformer.forward(np.arange(1, 33, dtype=np.uint32), cache, 0)
    one = np.array([1], np.uint32)
    transformer.forward(one, cache, 1)
    began = time.perf_counter_ns()
    for _ in range(REAL_TOKENS):
        transformer.forward(one, cache, 1)
    return (time.perf_counter_ns() - began) / REAL_TOKENS / 1e3
