"""Rotary positions: how far a position turns each pair of a head's numbers, and the ways to stretch that to
contexts longer than those of the training.

Sources: RoPE (https://arxiv.org/abs/2104.09864), position interpolation (https://arxiv.org/abs/2306.15595),
YaRN (https://arxiv.org/abs/2309.00071).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Yarn:
    """YaRN's constants: pairs that turn more than `fast` times within `original_context` keep their
    frequency, those that turn less than `slow` times are interpolated, and those between are blended.
    """

    original_context: int
    fast: float = 32.0
    slow: float = 1.0


@dataclass(frozen=True)
class Rope:
    """The rotary frequencies of a layer: powers of `theta`, slowed by `factor` (some of them, by `yarn`)."""

    theta: float
    factor: float = 1.0
    yarn: Yarn | None = None

    @property
    def magnitude(self) -> float:
        """What YaRN multiplies queries and keys with, to keep attention as sharp over more positions."""
        return 1.0 if self.yarn is None else 0.1 * math.log(self.factor) + 1.0

    def frequencies(self, head_dim: int) -> NDArray[np.float64]:
        """Radians per position of each rotary pair."""
        # -> [head_dim / 2]
        trained = self.theta ** -(np.arange(0, head_dim, 2) / head_dim)
        if self.yarn is None:
            return trained / self.factor
        kept = self._kept(head_dim, self.yarn)
        return trained * kept + trained / self.factor * (1 - kept)

    def _kept(self, head_dim: int, yarn: Yarn) -> NDArray[np.float64]:
        """How much of each pair's trained frequency stays: a ramp from 1 to 0."""
        # -> [head_dim / 2]

        def pair_that_turns(times: float) -> float:
            wavelength = yarn.original_context / (times * 2 * math.pi)
            return head_dim * math.log(wavelength) / (2 * math.log(self.theta))

        low = max(math.floor(pair_that_turns(yarn.fast)), 0)
        high = min(math.ceil(pair_that_turns(yarn.slow)), head_dim - 1)
        ramp = (np.arange(head_dim // 2) - low) / max(high - low, 0.001)
        kept: NDArray[np.float64] = 1 - np.clip(ramp, 0, 1)
        return kept
