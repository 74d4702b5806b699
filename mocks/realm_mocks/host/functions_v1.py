"""The imports of ABI v1 over the layer-wise model."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.hostapi import F32, U8, U32, U64

from realm_mocks.host.findings import Findings
from realm_mocks.host.functions import NOTHING, HostFunctions
from realm_mocks.host.layers import LayerwiseModel
from realm_mocks.host.model import ScriptedModel
from realm_mocks.host.outcome import Answer
from realm_mocks.host.rules import Expected
from realm_mocks.host.watch_v1 import WatchV1

TENSORS_PER_LAYER = 9

GGUF_HEADER = struct.Struct("<4sIQQ")
GGUF_VERSION = 3
LEAST_TENSOR, LEAST_KEY = 33, 13
"""Bytes that the description of a tensor and a key take at least."""


class FunctionsV1(HostFunctions):
    """A `HostV1Whole`: all models that a guest stores are the scripted one under more ids."""

    def __init__(self, model: ScriptedModel) -> None:
        super().__init__(model)
        self._stored: set[int] = set()
        self._begin(NOTHING, self.findings)

    def begin(self, expected: Expected, findings: Findings) -> None:
        """Starts a run: a v1 session is the run, so its cache is empty again."""
        super().begin(expected, findings)
        self._begin(expected, findings)

    def _begin(self, expected: Expected, findings: Findings) -> None:
        self.watch = WatchV1(expected, self.model.tokenizer, findings)
        self.layers = LayerwiseModel(self.model.layers, self.model.hidden_size, findings.report)

    @property
    def tokens(self) -> list[int]:
        """The sampled tokens, as far as they are known."""
        return self.watch.tokens

    def finished(self, answer: Answer) -> None:
        """Checks the end of a run."""
        self.findings.finished(answer)
        self.watch.finished(answer, "".join(self.texts))

    def check_model(self, handle: int) -> None:
        """`invalid_handle` unless it is the model's or one that was stored."""
        if handle not in self._stored:
            super().check_model(handle)

    def realm_get_model_metadata(self, model_id: int, out: U8, /) -> int:
        """Writes the model's shape as JSON."""
        self.check_model(model_id)
        return _put(self.model.metadata(), out)

    def realm_get_model_info(self, model_id: int, out_count: U32, out_size: U64, /) -> int:
        """Says how many tensors of what size there would be."""
        self.check_model(model_id)
        out_count[0] = TENSORS_PER_LAYER * self.model.layers + 2
        out_size[0] = 4 * int(out_count[0]) * self.model.hidden_size**2
        return 0

    def realm_encode_tokens(self, model_id: int, text: str, out: U32, /) -> int:
        """Tokens of a text, BOS first."""
        self.check_model(model_id)
        return self.model.encode(text, out, add_bos=True, parse_special=True)

    def realm_decode_tokens(self, model_id: int, ids: U32, out: U8, /) -> int:
        """Bytes of tokens, special ones left out."""
        self.check_model(model_id)
        return self.model.decode(ids, out, skip_special=True)

    def realm_embed_tokens(self, model_id: int, ids: U32, out: F32, /) -> int:
        """Tokens `[n]` to fingerprints `[n * hidden_size]`."""
        self.check_model(model_id)
        if not ids.size:
            raise AbiError(ErrorCode.invalid_argument, "no tokens to embed")
        self.model.check_tokens(ids)
        self.watch.feeding(ids.tolist())
        self.layers.embed(ids.tolist(), out)
        return int(out.nbytes)

    def realm_forward_layer(self, model_id: int, layer: int, hidden: F32, position: int, out: F32, /) -> int:
        """One layer over `[n * hidden_size]`, from `position` on."""
        self.check_model(model_id)
        if layer >= self.model.layers:
            raise AbiError(ErrorCode.invalid_argument, f"layer {layer} of {self.model.layers}")
        if not hidden.size:
            raise AbiError(ErrorCode.invalid_argument, "no rows for the layer")
        if position + hidden.size // self.model.hidden_size > self.model.context_length:
            raise AbiError(ErrorCode.context_full, f"the context holds {self.model.context_length} tokens")
        if position > (held := self.layers.held(layer)):
            self.findings.report("position", f"layer {layer} holds {held} positions, fed at {position}")
            raise AbiError(ErrorCode.invalid_argument, f"position {position} would leave a gap")
        self.layers.layer(layer, hidden, position, out)
        return int(out.nbytes)

    def realm_compute_logits(self, model_id: int, hidden: F32, out: F32, /) -> int:
        """A row `[hidden_size]` to the script's logits `[vocab_size]` for all that it has seen."""
        self.check_model(model_id)
        seen = self.layers.seen(hidden)
        logits = self.logits(list(seen))
        out[:] = logits
        self.watch.answered(logits, len(seen))
        return int(out.nbytes)

    def realm_stream_token(self, text: str, /) -> int:
        """Takes a text."""
        self.watch.streamed(text)
        self.texts.append(text)
        return 0

    def realm_host_load_model_by_name(self, name: str, /) -> int:
        """The scripted model goes by its name alone."""
        if name != self.model.name:
            raise AbiError(ErrorCode.not_found, f"no model {name!r}")
        return self.model.handle

    def realm_store_model(self, gguf: U8, model_id: int, /) -> int:
        """Takes any GGUF file for a model; it is the scripted one."""
        if not plausible_gguf(gguf.tobytes()):
            raise AbiError(ErrorCode.invalid_argument, "this is no GGUF file")
        taken = {self.model.handle, *self._stored}
        handle = model_id or max(taken) + 1
        if handle in taken:
            raise AbiError(ErrorCode.invalid_argument, f"model {handle} is there already")
        self._stored.add(handle)
        return handle

    def realm_store_draft_model(self, gguf: U8, draft_model_id: int, /) -> int:
        """As `realm_store_model`."""
        return self.realm_store_model(gguf, draft_model_id)

    def realm_remove_model(self, model_id: int, /) -> int:
        """Removes what this guest stored; the scripted model itself is not the guest's."""
        self.check_model(model_id)
        if model_id == self.model.handle:
            raise AbiError(ErrorCode.permission_denied, "the guest did not store this model")
        self._stored.discard(model_id)
        return 0

    def realm_get_tensor(self, model_id: int, name: str, out: F32, /) -> int:
        """A scripted model has no weights."""
        del out
        self.check_model(model_id)
        raise AbiError(ErrorCode.not_found, f"no tensor {name!r}")

    def realm_set_lora_adapter(self, model_id: int, id: str, /) -> int:
        """Only the base weights are there: the empty id."""
        self.check_model(model_id)
        if id:
            raise AbiError(ErrorCode.not_found, f"no adapter {id!r}")
        return 0

    def realm_host_generate(self, model_id: int, prompt: str, options: dict[str, Any], out: U8, /) -> int:
        """Greedy generation in the host; the text and a NUL."""
        self.check_model(model_id)
        tokenizer = self.model.tokenizer
        tokens = tokenizer.encode(prompt, add_bos=True)
        length = len(tokens)
        ends = {*tokenizer.eos_ids, *options["stop_tokens"].tolist()}
        while len(tokens) < min(length + options["max_tokens"], self.model.context_length):
            token = int(np.argmax(self.model.logits(tokens, length)))
            if token in ends:
                break
            tokens.append(token)
        self.texts.append(tokenizer.decode(tokens[length:]).decode(errors="replace"))
        return _put(self.texts[-1].encode() + b"\0", out)


def plausible_gguf(data: bytes) -> bool:
    """Whether bytes begin as a GGUF file does, with no more tensors and keys than they can hold."""
    if len(data) < GGUF_HEADER.size:
        return False
    magic, version, tensors, keys = GGUF_HEADER.unpack_from(data)
    rest = len(data) - GGUF_HEADER.size
    fits = tensors * LEAST_TENSOR + keys * LEAST_KEY <= rest
    return bool(magic == b"GGUF" and 1 <= version <= GGUF_VERSION and tensors and fits)


def _put(data: bytes, out: U8) -> int:
    if len(data) > len(out):
        raise AbiError(ErrorCode.buffer_too_small, f"{len(data)} bytes do not fit in {len(out)}")
    out[: len(data)] = np.frombuffer(data, dtype=np.uint8)
    return len(data)
