"""The model that is not there: its tokenizer, its sizes, and the script that speaks for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from realm_abi.contract import load_contract
from realm_abi.errors import AbiError, ErrorCode

from realm_mocks.host.script import Logits, Moment, Script
from realm_mocks.host.vocabulary import Tokenizer, default_vocabulary

NONE = 0xFFFF_FFFF

Drafter = Callable[[tuple[int, ...], int], Sequence[int]]
"""`(tokens seen, how many at most) -> proposed tokens`."""


@dataclass(frozen=True)
class ScriptedModel:
    """What a guest can see of a model. `handle` is not 1, so that a guest which guesses is found out."""

    script: Script
    tokenizer: Tokenizer = field(default_factory=default_vocabulary)
    layers: int = 2
    hidden_size: int = 16
    context_length: int = 4096
    handle: int = 0x2A
    name: str = "scripted"
    draft: Drafter | None = None

    def dims(self) -> Mapping[str, int]:
        """The dimensions that sizes of windows are computed from."""
        return {"hidden_size": self.hidden_size, "vocab_size": self.tokenizer.vocab_size}

    def logits(self, tokens: Sequence[int], prompt_length: int) -> Logits:
        """The script's logits `[vocab_size]` after `tokens`; ValueError if it gives another shape."""
        logits = self.script.logits(Moment(tuple(tokens), prompt_length, self.tokenizer.vocab_size))
        if logits.shape != (self.tokenizer.vocab_size,):
            raise ValueError(f"the script gave logits of shape {logits.shape}")
        return np.asarray(logits, dtype=np.float32)

    def encode(self, text: str, out: NDArray[np.uint32], *, add_bos: bool, parse_special: bool) -> int:
        """Writes ids and answers their count; `buffer_too_small` if they do not fit in `out`."""
        ids = self.tokenizer.encode(text, add_bos=add_bos, parse_special=parse_special)
        return self._write(np.asarray(ids, dtype=np.uint32), out)

    def decode(self, ids: NDArray[np.uint32], out: NDArray[np.uint8], *, skip_special: bool) -> int:
        """Writes the tokens' bytes and answers how many; `buffer_too_small` if they do not fit."""
        self.check_tokens(ids)
        text = self.tokenizer.decode(ids.tolist(), skip_special=skip_special)
        return self._write(np.frombuffer(text, dtype=np.uint8), out)

    def check_tokens(self, ids: NDArray[np.uint32]) -> None:
        """`invalid_argument` unless all ids `[n]` are in the vocabulary."""
        if ids.size and int(ids.max()) >= self.tokenizer.vocab_size:
            raise AbiError(ErrorCode.invalid_argument, f"token {int(ids.max())} is not in the vocabulary")

    def info(self) -> bytes:
        """The packed ModelInfo of ABI v2."""
        bos, eos = self.tokenizer.bos_id, self.tokenizer.eos_ids
        return load_contract().structs["ModelInfo"].pack(
            vocab_size=self.tokenizer.vocab_size,
            hidden_size=self.hidden_size,
            num_layers=self.layers,
            context_length=self.context_length,
            bos_token=NONE if bos is None else bos,
            eos_token=eos[0] if eos else NONE,
        )  # fmt: skip

    def metadata(self) -> bytes:
        """The JSON of ABI v1's realm_get_model_metadata."""
        config = {
            "vocab_size": self.tokenizer.vocab_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.layers,
            "num_heads": 2,
            "num_kv_heads": 1,
            "intermediate_size": 2 * self.hidden_size,
            "max_seq_len": self.context_length,
            "rope_theta": 10000.0,
            "rms_norm_eps": 1e-5,
        }
        return json.dumps({"config": config, "has_tokenizer": True}).encode()

    @staticmethod
    def _write(values: NDArray[np.uint32] | NDArray[np.uint8], out: NDArray[np.generic]) -> int:
        if len(values) > len(out):
            raise AbiError(ErrorCode.buffer_too_small, f"{len(values)} do not fit in {len(out)}")
        out[: len(values)] = values
        return len(values)
