"""The host functions of ABI v1: Realm's layer-wise loop, hidden states through guest memory.

v1 has no session handle: the guest instance is the session, so it gets one KV cache, opened with its first
use.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.steps import Answer, Steps, aside, until

from realm_reference.engine import LayerSession
from realm_reference.engine.adapters import LoadedAdapter
from realm_reference.model.model import Model
from realm_reference.orchestration.hostcalls import MODEL_HANDLE, HostCalls, put
from realm_reference.orchestration.request import encode_with_bos

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
F32 = NDArray[np.float32]

HostLoop = Callable[[str, Mapping[str, Any], LoadedAdapter | None], Steps[tuple[bytes, int]]]
"""A prompt, the fields of GenOptions and an adapter to the whole text and its number of tokens; raises
AbiError.
"""


class HostFunctionsV1(HostCalls):
    """Each method is the import of its name. Models are the server's: a guest can use its own, not add or
    remove one.
    """

    _implied: LayerSession | None = None
    host_loop: HostLoop | None = None
    embedded_tokens = 0
    hosted_tokens = 0
    streamed = False

    @staticmethod
    def calls_per_token(model: Model) -> int:
        """A layer is a call."""
        return model.config.n_layers

    def completion_tokens(self) -> int:
        """Tokens generated. Each is streamed once, but what was held back at a stop token may come as one
        call more.

        All tokens but one that max_tokens ended on are embedded to get the next, and that tells the two
        apart.
        """
        if self.hosted_tokens:
            return self.hosted_tokens
        calls = self.output.tokens
        generated = self.embedded_tokens - self._request.prompt.tokens
        return generated if calls < self._request.max_tokens and generated == calls - 1 else calls

    def realm_host_load_model_by_name(self, name: str, /) -> int:
        """The id of this request's model, by its own name only."""
        self._spend()
        if name != self._model.name:
            raise AbiError(ErrorCode.not_found, "no model of that name for this guest")
        return MODEL_HANDLE

    def realm_store_model(self, gguf: U8, model_id: int, /) -> int:
        """Refused: models are loaded by the server's operator."""
        self._spend()
        raise AbiError(ErrorCode.permission_denied, "guests may not store models")

    def realm_store_draft_model(self, gguf: U8, draft_model_id: int, /) -> int:
        """Refused: models are loaded by the server's operator."""
        self._spend()
        raise AbiError(ErrorCode.permission_denied, "guests may not store models")

    def realm_remove_model(self, model_id: int, /) -> int:
        """Refused: the model is not the guest's."""
        self._spend()
        self._own_model(model_id)
        raise AbiError(ErrorCode.permission_denied, "guests may not remove models")

    def realm_get_model_info(self, model_id: int, out_count: U32, out_size: U64, /) -> int:
        """Write the number of tensors and the bytes that they take in the file."""
        self._spend()
        self._own_model(model_id)
        tensors = self._model.file.tensors.values()
        out_count[0], out_size[0] = len(tensors), sum(tensor.n_bytes for tensor in tensors)
        return 0

    def realm_get_tensor(self, model_id: int, name: str, out: F32, /) -> Steps[int]:
        """Write a dequantised tensor; returns bytes. Its size is checked before anything is dequantised."""
        self._spend()
        self._own_model(model_id)
        file = self._model.file
        if name not in file.tensors:
            raise AbiError(ErrorCode.not_found, "no tensor of that name")
        if file.count(name) > len(out):
            raise AbiError(ErrorCode.buffer_too_small, f"{file.count(name)} f32 do not fit in {len(out)}")
        tensor = yield from aside(lambda: file.tensor(name))
        return 4 * put(tensor.reshape(-1), out)

    def realm_get_model_metadata(self, model_id: int, out: U8, /) -> int:
        """Write the model's shape as JSON; returns its bytes."""
        self._spend()
        self._own_model(model_id)
        config = self._model.config
        shape = {
            "vocab_size": self._vocab_size,
            "hidden_size": config.hidden_size,
            "num_layers": config.n_layers,
            "num_heads": config.n_heads,
            "num_kv_heads": config.n_kv_heads,
            "intermediate_size": config.intermediate_size,
            "max_seq_len": self._model.context_length,
            "rope_theta": config.rope.theta,
            "rms_norm_eps": config.rms_norm_eps,
        }
        return put(
            np.frombuffer(json.dumps({"config": shape, "has_tokenizer": True}).encode(), np.uint8), out
        )

    def realm_set_lora_adapter(self, model_id: int, id: str, /) -> int:
        """Compute with the adapter of that name from now on, or with the base weights for an empty one. A
        guest that never asks computes with its request's.
        """
        self._spend()
        self._own_model(model_id)
        self._models[MODEL_HANDLE] = self._adapter(id) if id else None
        if self._implied is not None:
            self._implied.use_adapter(self._models[MODEL_HANDLE])
        return 0

    def realm_encode_tokens(self, model_id: int, text: str, out: U32, /) -> Answer:
        """Write token ids, BOS first (once); returns their count."""
        self._spend()
        self._own_model(model_id)
        return self._soon(len(text), lambda: self._encode(text, out))

    def _encode(self, text: str, out: U32) -> int:
        ids = self._given_ids(text)
        if ids is None:
            ids = encode_with_bos(self._model.tokenizer, text)
        return put(np.array(ids, np.uint32), out)

    def realm_decode_tokens(self, model_id: int, ids: U32, out: U8, /) -> Answer:
        """Write the raw bytes of tokens, control tokens left out; returns how many."""
        self._spend()
        self._own_model(model_id)
        return self._soon(len(ids), lambda: self._spell(ids, out))

    def _spell(self, ids: U32, out: U8) -> int:
        return put(np.frombuffer(self._decode(ids, skip_special=True), np.uint8), out)

    def realm_embed_tokens(self, model_id: int, ids: U32, out: F32, /) -> Steps[int]:
        """ids [T] -> out [T * D]; returns bytes."""
        self._spend()
        self._own_model(model_id)
        embedded = yield from until(self._session_of_instance().start_embed(ids))
        self.embedded_tokens += len(ids)
        return 4 * put(embedded.reshape(-1), out)

    def realm_forward_layer(
        self, model_id: int, layer: int, hidden: F32, position: int, out: F32, /
    ) -> Steps[int]:
        """hidden [T * D] at `position`... through one layer -> out [T * D]; returns bytes."""
        self._spend()
        self._own_model(model_id)
        rows = hidden.reshape(-1, self._model.config.hidden_size)
        after = yield from until(self._session_of_instance().start_layer(layer, rows, position))
        return 4 * put(after.reshape(-1), out)

    def realm_compute_logits(self, model_id: int, hidden: F32, out: F32, /) -> Steps[int]:
        """hidden [D] -> out [V]; returns bytes."""
        self._spend()
        self._own_model(model_id)
        logits = yield from until(self._session_of_instance().start_logits(hidden.reshape(1, -1)))
        return 4 * put(logits.reshape(-1), out)

    def realm_stream_token(self, text: str, /) -> Answer:
        """Hand on the text of one token; returns 1 when the guest shall stop."""
        self._spend()
        self.streamed = True
        return self.output.stream(text)

    def realm_host_generate(
        self, model_id: int, prompt: str, options: dict[str, Any], out: U8, /
    ) -> Steps[int]:
        """Run the whole loop in the host; write the text and a NUL; returns their bytes."""
        self._spend()
        self._own_model(model_id)
        if self.host_loop is None:
            raise AbiError(ErrorCode.unsupported, "the host's own loop is not at hand here")
        text, tokens = yield from self.host_loop(prompt, options, self._models[MODEL_HANDLE])
        written = put(np.frombuffer(text + b"\0", np.uint8), out)
        self.hosted_tokens += tokens
        return written

    def close(self) -> None:
        """Free the instance's cache."""
        if self._implied is not None:
            self._implied.free()
            self._implied = None
        super().close()

    def _session_of_instance(self) -> LayerSession:
        if self._implied is None:
            owner, adapter = self._request.tenant, self._models[MODEL_HANDLE]
            self._implied = self._engine.open_layers(owner, self._generation.stepped, adapter)
            self._generation.on_cancel(self._implied.cancel)
        return self._implied
