"""LoRA adapters as values: low-rank changes to a model's projections, whatever file they come from.

W' = W + scale * B @ A (https://arxiv.org/abs/2106.09685). `adapter_files.load_adapter` reads them; a runner
adds (x @ A.T) @ B.T to the output of each projection that an adapter changes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from realm_reference.model.config import LlamaConfig

Floats = NDArray[np.float32]
Target = Literal["q", "k", "v", "output", "gate", "up", "down"]
TARGETS: Final[tuple[Target, ...]] = get_args(Target)

ADAPTER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names that can stand behind the colon of `model: base:adapter`, in a metric and in a file."""

MAX_RANK: Final = 1024


@dataclass(frozen=True)
class Factors:
    """The change of one projection: `b` @ `a` is added to its weight. The scale is in `b`."""

    a: Floats  # [rank, inputs]
    b: Floats  # [outputs, rank]


@dataclass(frozen=True)
class Adapter:
    """What an adapter changes, for each layer; q and k are in the order of `split_pairs`, as the weights are.

    `digest` is of its numbers: the same name may stand for others tomorrow.
    """

    name: str
    layers: tuple[Mapping[Target, Factors], ...]
    digest: str

    @property
    def rank(self) -> int:
        """The largest rank in it."""
        return max(len(factors.a) for layer in self.layers for factors in layer.values())

    @property
    def nbytes(self) -> int:
        """The memory of its factors."""
        return sum(f.a.nbytes + f.b.nbytes for layer in self.layers for f in layer.values())


@dataclass(frozen=True)
class Part:
    """One projection's factors as a file has them; `name` is what the file calls the projection."""

    name: str
    a: Floats  # [rank, inputs]
    b: Floats  # [outputs, rank], without the scale
    scale: float


def projection_shapes(config: LlamaConfig) -> dict[Target, tuple[int, int]]:
    """[outputs, inputs] of each projection; k and v are narrower than q under grouped-query attention."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    heads, kv_heads = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    return {
        "q": (heads, hidden),
        "k": (kv_heads, hidden),
        "v": (kv_heads, hidden),
        "output": (hidden, heads),
        "gate": (ffn, hidden),
        "up": (ffn, hidden),
        "down": (hidden, ffn),
    }


def assemble(
    name: str,
    parts: Mapping[tuple[int, Target], Part],
    config: LlamaConfig,
    error: Callable[[str], Exception],
) -> Adapter:
    """An adapter of a file's parts, each checked for its shape and its numbers; `error` makes what is raised
    for one that does not fit the model.
    """
    if not parts:
        raise error("it changes no projection of the model")
    shapes = projection_shapes(config)
    layers: list[dict[Target, Factors]] = [{} for _ in range(config.n_layers)]
    digest = hashlib.sha256()
    for (layer, target), part in sorted(parts.items()):
        if layer >= config.n_layers:
            raise error(f"{part.name} is of a layer that the model has not: it has {config.n_layers}")
        factors = _factors(part, shapes[target], error)
        layers[layer][target] = factors
        digest.update(f"{layer}.{target} {factors.a.shape}".encode() + factors.a.tobytes())
        digest.update(factors.b.tobytes())
    return Adapter(name, tuple(layers), digest.hexdigest()[:16])


def _factors(part: Part, shape: tuple[int, int], error: Callable[[str], Exception]) -> Factors:
    (outputs, inputs), rank = shape, part.a.shape[0]
    if not 1 <= rank <= MAX_RANK:
        raise error(f"the rank of {part.name} is {rank}, not 1 to {MAX_RANK}")
    if part.a.shape != (rank, inputs):
        raise error(f"A of {part.name} has the shape {part.a.shape}, not {(rank, inputs)}")
    if part.b.shape != (outputs, rank):
        raise error(f"B of {part.name} has the shape {part.b.shape}, not {(outputs, rank)}")
    with np.errstate(over="ignore"):
        scaled = part.b * np.float32(part.scale)
    if not (np.isfinite(part.a).all() and np.isfinite(scaled).all()):
        raise error(f"{part.name} holds numbers that are not finite")
    return Factors(np.ascontiguousarray(part.a), np.ascontiguousarray(scaled))
