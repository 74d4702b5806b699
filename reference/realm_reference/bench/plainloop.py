"""The guests' loop in plain Python, without a sandbox: what the same host functions cost when called as they
are.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realm_reference.bench.nullhost import NullHost, Shape

_GREEDY_BELOW = 1e-7


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn; what the guests' requests call these numbers. No penalty here."""

    name: str
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0


SAMPLINGS = (
    Sampling("greedy"),
    Sampling("temperature 0.8", temperature=0.8),
    Sampling("top-k 40, top-p 0.9", temperature=1.0, top_k=40, top_p=0.9),
    Sampling("min-p 0.05", temperature=1.0, min_p=0.05),
)


def uniform_at(seed: int, position: int) -> float:
    """The draw of a position in [0, 1): Philox4x32-10 with the seed as key and the position as counter."""
    counter, key = [position, 0, 0, 0], [seed % 2**32, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(b >> 32) ^ counter[1] ^ key[0], b % 2**32, (a >> 32) ^ counter[3] ^ key[1], a % 2**32]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return ((counter[0] >> 5) * 2**26 + (counter[1] >> 6)) / 2**53


def take(logits: NDArray[np.float32], sampling: Sampling, seed: int, position: int) -> int:
    """The token that the guests draw from logits [V], up to rounding."""
    if sampling.temperature < _GREEDY_BELOW:
        return int(logits.argmax())
    scaled = logits / np.float32(sampling.temperature)
    kept = np.arange(len(scaled))
    if sampling.top_k:
        bound = np.partition(scaled, -sampling.top_k)[-sampling.top_k]
        kept = np.flatnonzero(scaled >= bound)
    weights = np.exp(scaled[kept] - scaled.max()) if sampling.top_k else np.exp(scaled - scaled.max())
    if sampling.top_k or sampling.top_p < 1:
        order = np.argsort(-scaled[kept], kind="stable")[: sampling.top_k or None]
        reached = np.cumsum(weights[order], dtype=np.float64)
        count = int(np.searchsorted(reached, sampling.top_p * reached[-1])) + 1
        chosen = np.sort(order[:count])
        kept, weights = kept[chosen], weights[chosen]
    if sampling.min_p:
        chosen = np.flatnonzero(weights >= np.float32(sampling.min_p))
        kept, weights = kept[chosen], weights[chosen]
    reached = np.cumsum(weights, dtype=np.float64)
    drawn = int(np.searchsorted(reached, uniform_at(seed, position) * reached[-1], side="right"))
    return int(kept[min(drawn, len(kept) - 1)])


def generate(
    host: NullHost,
    shape: Shape,
    prompt: str,
    sampling: Sampling,
    *,
    seed: int,
    max_tokens: int,
    layered: bool,
) -> list[int]:
    """Runs the loop on the host's functions, layer by layer as v1 does or whole as v2; answers the tokens."""
    logits = np.empty(shape.vocab, np.float32)
    piece = np.empty(256, np.uint8)
    ids = np.empty(len(prompt), np.uint32)
    host.realm_encode(1, prompt, 0, ids)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    made: list[int] = []
    for position in range(len(prompt), len(prompt) + max_tokens):
        if layered:
            _forward_by_layers(host, shape, ids, position, logits)
        else:
            host.realm_forward(1, ids, logits, 1)
        token = take(logits, sampling, seed, position)
        made.append(token)
        ids = np.array([token], np.uint32)
        size = host.realm_decode(1, ids, 0, piece)
        text = decoder.decode(piece[:size].tobytes())
        if layered:
            host.realm_stream_token(text)
        else:
            host.realm_emit(1, token, text, float("nan"), 0)
    return made


def _forward_by_layers(
    host: NullHost, shape: Shape, ids: NDArray[np.uint32], position: int, logits: NDArray[np.float32]
) -> None:
    hidden = np.empty(len(ids) * shape.hidden, np.float32)
    after = np.empty_like(hidden)
    host.realm_embed_tokens(1, ids, hidden)
    for layer in range(shape.layers):
        host.realm_forward_layer(1, layer, hidden, position, after)
        hidden, after = after, hidden
    host.realm_compute_logits(1, hidden[-shape.hidden :], logits)
