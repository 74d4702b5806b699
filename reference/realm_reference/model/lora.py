"""An adapter laid out for matrix products, as `LayerWeights` lays out the weights that it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from realm_reference.compute.numpy import Array, Arrays
from realm_reference.model.adapters import Adapter, Factors, Target, projection_shapes
from realm_reference.model.config import LlamaConfig


@dataclass(frozen=True)
class Delta:
    """What is added to a joined matrix [inputs, outputs]: `a` @ `b`, without ever being multiplied out."""

    a: Array  # [inputs, ranks]
    b: Array  # [ranks, outputs]


@dataclass(frozen=True)
class LayerDeltas:
    """One layer's; None where the adapter changes nothing."""

    qkv: Delta | None = None
    output: Delta | None = None
    gate_up: Delta | None = None
    down: Delta | None = None


UNCHANGED: Final = LayerDeltas()


def lay_out(adapter: Adapter, config: LlamaConfig, arrays: Arrays) -> tuple[LayerDeltas, ...]:
    """The adapter's layers on a backend's arrays."""

    def delta(layer: Mapping[Target, Factors], *joined: Target) -> Delta | None:
        return _joined(layer, joined, config, arrays) if any(name in layer for name in joined) else None

    return tuple(
        LayerDeltas(
            qkv=delta(layer, "q", "k", "v"),
            output=delta(layer, "output"),
            gate_up=delta(layer, "gate", "up"),
            down=delta(layer, "down"),
        )
        for layer in adapter.layers
    )


def _joined(
    layer: Mapping[Target, Factors], names: tuple[Target, ...], config: LlamaConfig, arrays: Arrays
) -> Delta:
    """The factors of projections that share their input: A beside A, and B as blocks on a diagonal, so that
    each reaches its own outputs alone.
    """
    shapes = projection_shapes(config)
    ranks = sum(layer[name].a.shape[0] for name in names if name in layer)
    b = np.zeros((ranks, sum(shapes[name][0] for name in names)), np.float32)
    rank = output = 0
    for name in names:
        if name in layer:
            block = layer[name].b.T
            b[rank : rank + block.shape[0], output : output + block.shape[1]] = block
            rank += block.shape[0]
        output += shapes[name][0]
    a = np.concatenate([layer[name].a for name in names if name in layer])
    return Delta(arrays.from_numpy(a).T, arrays.from_numpy(b))


def project(x: Array, weight: Array, delta: Delta | None) -> Array:
    """The projection of each row, with what an adapter adds."""
    # [n_seq, inputs], [inputs, outputs] -> [n_seq, outputs]
    return x @ weight if delta is None else x @ weight + (x @ delta.a) @ delta.b
