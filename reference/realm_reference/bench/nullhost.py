"""A host without a model: its functions copy prepared numbers, so what is left of a token's time is the way
there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from realm_abi.contract import load_contract
from realm_abi.hostapi import F32, U8, U32

_TEXT = np.frombuffer(b" word", np.uint8)
_NO_TOKEN = 0xFFFF_FFFF


@dataclass(frozen=True)
class Shape:
    """The sizes of a model, those of SmolLM2-135M by default."""

    layers: int = 30
    hidden: int = 576
    vocab: int = 49_152
    context: int = 2_048


class NullHost:
    """Both versions of the ABI. `logits` [n, V] are answered in turn; every token's text is a short word.

    `stamps_ns` has the time at which each token was handed on, `tokens` their ids (v2 only: v1 does not say).
    """

    def __init__(self, shape: Shape, logits: NDArray[np.float32]) -> None:
        self._shape = shape
        self._logits = logits
        self._hidden = np.zeros(shape.hidden, np.float32)
        self._dims = {"hidden_size": shape.hidden, "vocab_size": shape.vocab}
        self._step = 0
        self.stamps_ns: list[int] = []
        self.tokens: list[int] = []

    def dims(self, kind: str, handle: int, /) -> Mapping[str, int]:
        """The shape, whatever is asked for."""
        return self._dims

    def _next_row(self) -> NDArray[np.float32]:
        self._step += 1
        row: NDArray[np.float32] = self._logits[self._step % len(self._logits)]
        return row

    # ABI v2

    def realm_abi_version(self) -> int:
        """2."""
        return 2

    def realm_model_info(self, model: int, out: U8, /) -> int:
        """The shape; no token begins or ends a text."""
        shape = self._shape
        info = load_contract().structs["ModelInfo"].pack(
            vocab_size=shape.vocab,
            hidden_size=shape.hidden,
            num_layers=shape.layers,
            context_length=shape.context,
            bos_token=_NO_TOKEN,
            eos_token=_NO_TOKEN,
        )  # fmt: skip
        out[: len(info)] = np.frombuffer(info, np.uint8)
        return len(info)

    def realm_encode(self, model: int, text: str, flags: int, out: U32, /) -> int:
        """A token a character."""
        out[: len(text)] = [ord(character) for character in text]
        return len(text)

    def realm_decode(self, model: int, ids: U32, flags: int, out: U8, /) -> int:
        """The same short word for every token."""
        out[: len(_TEXT)] = _TEXT
        return len(_TEXT)

    def realm_session_open(self, model: int, /) -> int:
        """The one session."""
        return 1

    def realm_session_free(self, session: int, /) -> int:
        """Nothing to free."""
        return 0

    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> int:
        """Copies a row [V]."""
        if rows:
            logits[: self._shape.vocab] = self._next_row()
        return rows

    def realm_emit(self, session: int, token: int, text: str, logprob: float, flags: int, /) -> int:
        """Notes the time and the token."""
        self.stamps_ns.append(time.perf_counter_ns())
        self.tokens.append(token)
        return 0

    # ABI v1

    def realm_get_model_metadata(self, model_id: int, out: U8, /) -> int:
        """The shape."""
        shape = self._shape
        config = {
            "vocab_size": shape.vocab,
            "hidden_size": shape.hidden,
            "num_layers": shape.layers,
            "max_seq_len": shape.context,
            "rope_theta": 1e4,
        }
        text = json.dumps({"config": config, "has_tokenizer": True}).encode()
        out[: len(text)] = np.frombuffer(text, np.uint8)
        return len(text)

    def realm_encode_tokens(self, model_id: int, text: str, out: U32, /) -> int:
        """A token a character."""
        return self.realm_encode(model_id, text, 0, out)

    def realm_decode_tokens(self, model_id: int, ids: U32, out: U8, /) -> int:
        """The same short word for every token."""
        return self.realm_decode(model_id, ids, 0, out)

    def realm_embed_tokens(self, model_id: int, ids: U32, out: F32, /) -> int:
        """Copies a hidden state [D] for each id."""
        out.reshape(-1, self._shape.hidden)[:] = self._hidden
        return out.nbytes

    def realm_forward_layer(self, model_id: int, layer: int, hidden: F32, position: int, out: F32, /) -> int:
        """Copies the hidden states [n * D]."""
        out[:] = hidden
        return out.nbytes

    def realm_compute_logits(self, model_id: int, hidden: F32, out: F32, /) -> int:
        """Copies a row [V]."""
        out[:] = self._next_row()
        return out.nbytes

    def realm_stream_token(self, text: str, /) -> int:
        """Notes the time."""
        self.stamps_ns.append(time.perf_counter_ns())
        return 0
