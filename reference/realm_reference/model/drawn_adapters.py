"""Adapters whose factors are drawn from a seed: nobody trained them, but they tell themselves apart."""

from __future__ import annotations

from typing import Final

import numpy as np

from realm_reference.model.adapters import (
    ADAPTER_NAME,
    Adapter,
    Part,
    Target,
    assemble,
    projection_shapes,
)
from realm_reference.model.config import LlamaConfig
from realm_reference.model.errors import AdapterFileError

SEED: Final = "seed:"
_RANK: Final = 4
_SIZE: Final = 2.0
"""Of what it adds to a projection, beside inputs of size 1: enough to change what is said."""


def drawn_adapter(name: str, source: str, config: LlamaConfig) -> Adapter:
    """The adapter of "seed:N" for a model of these dimensions. Raises AdapterFileError where N is no seed."""
    given = source.removeprefix(SEED)
    if not ADAPTER_NAME.fullmatch(name) or not (given.isascii() and given.isdigit() and len(given) <= 9):
        raise AdapterFileError(
            f"{name[:80]}={source[:80]} is no drawn adapter; take NAME=seed:1 or another N"
        )
    random = np.random.default_rng(int(given))
    parts: dict[tuple[int, Target], Part] = {}
    for layer in range(config.n_layers):
        for target, (outputs, inputs) in projection_shapes(config).items():
            a = random.standard_normal((_RANK, inputs), np.float32) / np.float32(np.sqrt(inputs))
            b = random.standard_normal((outputs, _RANK), np.float32) / np.float32(np.sqrt(_RANK))
            parts[layer, target] = Part(target, a, b, _SIZE)
    return assemble(name, parts, config, AdapterFileError)
