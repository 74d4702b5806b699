"""The shape of a Llama model, from a GGUF file's metadata."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from realm_reference.model.gguf import GGUFFile

_MAX_LAYERS = 1024
_MAX_WIDTH = 1 << 20
_MAX_CONTEXT = 1 << 24
# Metadata that changes the arithmetic in a way that the transformer does not have; 0 or absent is fine.
_UNSUPPORTED = {
    "expert_count": "a mixture of experts",
    "attention.sliding_window": "sliding-window attention",
    "attention.max_alibi_bias": "ALiBi positions",
    "attention.clamp_kqv": "clamped projections",
    "logit_scale": "scaled logits",
    "residual_scale": "scaled residuals",
    "embedding_scale": "scaled embeddings",
}


@dataclass(frozen=True)
class LlamaConfig:
    """Dimensions (counts) and constants of a Llama-architecture transformer.

    `rope_theta` is the base of the rotary frequencies; every frequency is divided by `rope_linear_factor`.
    """

    n_layers: int
    hidden_size: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate_size: int
    context_length: int
    rms_norm_eps: float
    rope_theta: float
    rope_linear_factor: float

    @classmethod
    def from_gguf(cls, file: GGUFFile) -> LlamaConfig:
        """Read and check the `llama.*` metadata; raises ModelFileError for another architecture or an
        unusable value.
        """
        architecture = file.metadata.get("general.architecture")
        if architecture != "llama":
            raise file.error(
                f"its architecture is {str(architecture)[:40]!r}",
                "the reference runs the architecture 'llama' only",
            )
        for key, name in _UNSUPPORTED.items():
            if file.metadata.get(f"llama.{key}"):
                raise file.error(
                    f"it uses {name} (llama.{key})", "the reference runs plain Llama models only"
                )
        read = _Reader(file)
        hidden = read.integer("embedding_length", 1, _MAX_WIDTH)
        n_heads = read.integer("attention.head_count", 1, hidden)
        head_dim = read.integer("attention.key_length", 1, _MAX_WIDTH, default=hidden // n_heads)
        config = cls(
            n_layers=read.integer("block_count", 1, _MAX_LAYERS),
            hidden_size=hidden,
            n_heads=n_heads,
            n_kv_heads=read.integer("attention.head_count_kv", 1, n_heads, default=n_heads),
            head_dim=head_dim,
            intermediate_size=read.integer("feed_forward_length", 1, _MAX_WIDTH),
            context_length=read.integer("context_length", 1, _MAX_CONTEXT),
            rms_norm_eps=read.number("attention.layer_norm_rms_epsilon", 1e-5),
            rope_theta=read.number("rope.freq_base", 10000.0),
            rope_linear_factor=_linear_factor(file, read),
        )
        if config.n_heads % config.n_kv_heads or head_dim % 2:
            raise file.error(
                f"{n_heads} query heads cannot share {config.n_kv_heads} key/value heads of {head_dim}"
            )
        read.same("rope.dimension_count", head_dim, "rotation of a part of each head")
        read.same("attention.value_length", head_dim, "values of another length than the keys")
        return config


def _linear_factor(file: GGUFFile, read: _Reader) -> float:
    """Position interpolation (https://arxiv.org/abs/2306.15595); other scaling methods are refused."""
    method = file.metadata.get("llama.rope.scaling.type", "none")
    if method not in ("none", "linear"):
        raise file.error(
            f"it scales its positions by {str(method)[:40]!r}", "the reference knows 'none' and 'linear'"
        )
    if method == "none":
        return read.number("rope.scale_linear", 1.0)
    return read.number("rope.scaling.factor", 1.0)


class _Reader:
    """Typed look-ups under `llama.` that name the key when the value is unusable."""

    def __init__(self, file: GGUFFile) -> None:
        self._file = file

    def _get(self, key: str, default: Any) -> Any:
        value = self._file.metadata.get(f"llama.{key}", default)
        if value is None:
            raise self._file.error(f"llama.{key} is missing from its metadata")
        return value

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self._get(key, default)
        if type(value) is not int or not low <= value <= high:
            raise self._file.error(
                f"llama.{key} is {str(value)[:40]}, not a whole number from {low} to {high}"
            )
        return value

    def number(self, key: str, default: float) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise self._file.error(f"llama.{key} is {str(value)[:40]}, not a positive number")
        return float(value)

    def same(self, key: str, wanted: int, otherwise: str) -> None:
        value = self._get(key, wanted)
        if value != wanted:
            raise self._file.error(
                f"llama.{key} is {str(value)[:40]}, not {wanted}: {otherwise}",
                "the reference runs plain Llama models only",
            )
