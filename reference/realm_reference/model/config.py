"""The shape of a decoder of the Llama family, from a GGUF file's metadata.

The family's architectures differ in a handful of facts: some are in the metadata, some only in the name of
the architecture (`_FAMILIES`). Both become fields here, so that nothing else has to know the names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

from realm_reference.model.errors import ModelFileError
from realm_reference.model.gguf import GGUFFile
from realm_reference.model.rope import Rope, Yarn

Activation = Literal["silu", "gelu"]

_MAX_LAYERS: Final = 1024
_MAX_WIDTH: Final = 1 << 20
_MAX_CONTEXT: Final = 1 << 24
_PLAIN: Final = "the reference cannot run this variant"
# Metadata that changes the arithmetic in a way that the transformer does not have; 0 or absent is fine.
_UNSUPPORTED: Final = {
    "expert_count": "a mixture of experts",
    "attention.max_alibi_bias": "ALiBi positions",
    "attention.clamp_kqv": "clamped projections",
    "attn_logit_softcapping": "capped attention scores",
    "final_logit_softcapping": "capped logits",
    "logit_scale": "scaled logits",
    "residual_scale": "scaled residuals",
    "embedding_scale": "scaled embeddings",
    "rope.scaling.attn_factor": "a magnitude of its own for scaled positions",
    "rope.scaling.yarn_log_multiplier": "a magnitude of its own for scaled positions",
}


@dataclass(frozen=True)
class _Family:
    """What an architecture's name means beside its metadata. A window covers every layer but each
    `full_every`-th; windowed layers turn by `window_theta`, unscaled. Models of `scores_by_width` layers
    scale attention by the hidden width per head, the others by the head's own.
    """

    interleaved_rope: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    post_norms: bool = False
    activation: Activation = "silu"
    scaled_embedding: bool = False
    full_every: int | None = None
    window_theta: float = 10000.0
    scores_by_width: frozenset[int] = frozenset()


_FAMILIES: Final = {
    "llama": _Family(interleaved_rope=True),
    "qwen2": _Family(qkv_bias=True),
    "qwen3": _Family(qk_norm=True),
    # The report (https://arxiv.org/abs/2503.19786, section 2) has what the files lack: five windowed layers
    # to one that sees everything, and the bases of both. Of its sizes the 27B alone has 62 layers.
    "gemma3": _Family(
        qk_norm=True,
        post_norms=True,
        activation="gelu",
        scaled_embedding=True,
        full_every=6,
        scores_by_width=frozenset({62}),
    ),
}


@dataclass(frozen=True)
class LayerConfig:
    """What the layers of one model may differ in. A query sees the last `window` positions, its own
    included; 0 stands for all.
    """

    window: int
    rope: Rope


@dataclass(frozen=True)
class LlamaConfig:
    """Dimensions (counts) and constants of a transformer of the Llama family.

    `interleaved_rope`: the file's rows of q and k hold rotary pairs as neighbours, not half a head apart.
    `qkv_bias`: q, k and v have biases. `qk_norm`: each head of q and k is normed before it is turned.
    `post_norms`: what attention and feed-forward give is normed before it is added. `activation` is of the
    feed-forward's gate. Embeddings are multiplied by `embedding_scale`, attention scores by
    `attention_scale`.
    """

    architecture: str
    n_layers: int
    hidden_size: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate_size: int
    context_length: int
    rms_norm_eps: float
    layers: tuple[LayerConfig, ...]
    interleaved_rope: bool
    qkv_bias: bool
    qk_norm: bool
    post_norms: bool
    activation: Activation
    embedding_scale: float
    attention_scale: float

    @property
    def rope(self) -> Rope:
        """The rotation of the layers that see every position."""
        return next((layer.rope for layer in self.layers if not layer.window), self.layers[0].rope)

    @classmethod
    def from_gguf(cls, file: GGUFFile) -> LlamaConfig:
        """Read and check the metadata; raises ModelFileError for an architecture of another family or an
        unusable value.
        """
        architecture = str(file.metadata.get("general.architecture"))
        family = _FAMILIES.get(architecture)
        if family is None:
            known = ", ".join(_FAMILIES)
            raise file.error(f"its architecture is {architecture[:40]!r}", f"the reference runs {known} only")
        read = _Reader(file, architecture)
        for key, name in _UNSUPPORTED.items():
            read.absent(key, name)
        hidden = read.integer("embedding_length", 1, _MAX_WIDTH)
        n_heads = read.integer("attention.head_count", 1, hidden)
        head_dim = read.integer("attention.key_length", 1, _MAX_WIDTH, default=hidden // n_heads)
        n_layers = read.integer("block_count", 1, _MAX_LAYERS)
        scored = hidden / n_heads if n_layers in family.scores_by_width else head_dim
        config = cls(
            architecture=architecture,
            n_layers=n_layers,
            hidden_size=hidden,
            n_heads=n_heads,
            n_kv_heads=read.integer("attention.head_count_kv", 1, n_heads, default=n_heads),
            head_dim=head_dim,
            intermediate_size=read.integer("feed_forward_length", 1, _MAX_WIDTH),
            context_length=read.integer("context_length", 1, _MAX_CONTEXT),
            rms_norm_eps=read.number("attention.layer_norm_rms_epsilon", 1e-5),
            layers=_layers(read, family, n_layers),
            interleaved_rope=family.interleaved_rope,
            qkv_bias=family.qkv_bias,
            qk_norm=family.qk_norm,
            post_norms=family.post_norms,
            activation=family.activation,
            embedding_scale=math.sqrt(hidden) if family.scaled_embedding else 1.0,
            attention_scale=read.number("attention.scale", scored**-0.5),
        )
        if config.n_heads % config.n_kv_heads or head_dim % 2:
            raise file.error(
                f"{n_heads} query heads cannot share {config.n_kv_heads} key/value heads of {head_dim}"
            )
        read.same("rope.dimension_count", head_dim, "rotation of a part of each head")
        read.same("attention.value_length", head_dim, "values of another length than the keys")
        return config


def _layers(read: _Reader, family: _Family, n_layers: int) -> tuple[LayerConfig, ...]:
    """Each layer's window and rotation."""
    full = LayerConfig(0, _rope(read))
    if not read.get("attention.sliding_window", 0):
        return (full,) * n_layers
    if family.full_every is None:
        read.absent("attention.sliding_window", "sliding-window attention in layers that are not named")
    windowed = LayerConfig(
        window=read.integer("attention.sliding_window", 1, _MAX_CONTEXT),
        rope=Rope(read.number("rope.freq_base_swa", family.window_theta)),
    )
    period = read.integer("attention.sliding_window_pattern", 1, _MAX_LAYERS, default=family.full_every)
    return tuple(full if i % period == period - 1 else windowed for i in range(n_layers))


def _rope(read: _Reader) -> Rope:
    """The rotation that the metadata state; ways of scaling that are not known are refused."""
    theta = read.number("rope.freq_base", 10000.0)
    method = read.get("rope.scaling.type", "none")
    if method == "none":
        return Rope(theta, read.number("rope.scale_linear", 1.0))
    factor = read.number("rope.scaling.factor", 1.0)
    if method == "linear":
        return Rope(theta, factor)
    if method == "yarn":
        if theta <= 1 or factor < 1:
            raise read.file.error(f"it scales its positions by {factor:g} with the base {theta:g}", _PLAIN)
        original = read.integer("rope.scaling.original_context_length", 1, _MAX_CONTEXT)
        return Rope(theta, factor, Yarn(original))
    raise read.file.error(
        f"it scales its positions by {str(method)[:40]!r}", "the reference knows 'none', 'linear' and 'yarn'"
    )


class _Reader:
    """Typed look-ups under the architecture's name that name the key when the value is unusable."""

    def __init__(self, file: GGUFFile, architecture: str) -> None:
        self.file = file
        self._prefix = architecture

    def get(self, key: str, default: Any) -> Any:
        value = self.file.metadata.get(f"{self._prefix}.{key}", default)
        if value is None:
            raise self.file.error(f"{self._prefix}.{key} is missing from its metadata")
        return value

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self.get(key, default)
        if type(value) is not int or not low <= value <= high:
            raise self._error(key, value, f"not a whole number from {low} to {high}")
        return value

    def number(self, key: str, default: float) -> float:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise self._error(key, value, "not a positive number")
        return float(value)

    def same(self, key: str, wanted: int, otherwise: str) -> None:
        value = self.get(key, wanted)
        if value != wanted:
            raise self._error(key, value, f"not {wanted}: {otherwise}")

    def absent(self, key: str, name: str) -> None:
        if self.get(key, 0):
            raise self.file.error(f"it uses {name} ({self._prefix}.{key})", _PLAIN)

    def _error(self, key: str, value: object, fault: str) -> ModelFileError:
        return self.file.error(f"{self._prefix}.{key} is {str(value)[:40]}, {fault}")
