"""What a host implements: the imports as Python methods, for the type checker and for readers.

A method is named like its import. Texts come as `str`, windows as NumPy views of guest memory that the guard
has checked: `in` windows are read-only, `out` windows writable, neither may be kept after the call. A method
answers an int >= 0 as the contract says, or raises `AbiError`; anything else that it raises is logged and
answered with `internal`. A host may lack methods: the guest is then answered `unsupported`.

A method that the contract lets wait may answer steps (`realm_abi.steps`), and so be a generator. Where many
guests run on one thread it has to: whatever waits otherwise keeps all of them waiting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from realm_abi.steps import Answer

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
F32 = NDArray[np.float32]
HandleKind = Literal["model", "session"]


class HostTrap(Exception):
    """Raised by a host function to end the guest with a trap instead of answering it."""


class Dimensions(Protocol):
    """What the guard asks a host before it checks a window whose size depends on a model."""

    def dims(self, kind: HandleKind, handle: int, /) -> Mapping[str, int]:
        """`hidden_size`, `vocab_size` of a model or a session's model; AbiError for an unknown handle."""
        ...


class HostV1(Dimensions, Protocol):
    """The imports of ABI v1, those that the layer-wise loop needs; D = hidden_size, V = vocab_size."""

    def realm_get_model_metadata(self, model_id: int, out: U8, /) -> int:
        """Writes JSON; answers its bytes."""
        ...

    def realm_encode_tokens(self, model_id: int, text: str, out: U32, /) -> Answer:
        """Writes token ids, beginning of sequence first; answers their count."""
        ...

    def realm_decode_tokens(self, model_id: int, ids: U32, out: U8, /) -> Answer:
        """Writes the raw bytes of tokens; answers how many."""
        ...

    def realm_embed_tokens(self, model_id: int, ids: U32, out: F32, /) -> Answer:
        """ids [n] -> out [n * D]; answers 4 * n * D."""
        ...

    def realm_forward_layer(
        self, model_id: int, layer: int, hidden: F32, position: int, out: F32, /
    ) -> Answer:
        """hidden [n * D] at position .. position + n - 1 -> out [n * D]; answers 4 * n * D."""
        ...

    def realm_compute_logits(self, model_id: int, hidden: F32, out: F32, /) -> Answer:
        """hidden [D] -> out [V]; answers 4 * V."""
        ...

    def realm_stream_token(self, text: str, /) -> Answer:
        """Takes a token's text; answers 0 to go on, 1 to stop."""
        ...


class HostV1Whole(HostV1, Protocol):
    """All of ABI v1, what Realm offers beyond the loop too."""

    def realm_store_model(self, gguf: U8, model_id: int, /) -> int:
        """Stores a GGUF file; model_id 0 means choose one; answers the id."""
        ...

    def realm_store_draft_model(self, gguf: U8, draft_model_id: int, /) -> int:
        """Stores a draft model; answers its id."""
        ...

    def realm_host_load_model_by_name(self, name: str, /) -> int:
        """Answers the id of the model of that name, which is never a path."""
        ...

    def realm_remove_model(self, model_id: int, /) -> int:
        """Removes a model that this guest stored; answers 0."""
        ...

    def realm_get_tensor(self, model_id: int, name: str, out: F32, /) -> int:
        """Writes a dequantised tensor; answers its bytes."""
        ...

    def realm_get_model_info(self, model_id: int, out_count: U32, out_size: U64, /) -> int:
        """Writes the number of tensors [1] and of their bytes [1]; answers 0."""
        ...

    def realm_set_lora_adapter(self, model_id: int, id: str, /) -> int:
        """Chooses an adapter; answers 0."""
        ...

    def realm_host_generate(self, model_id: int, prompt: str, options: dict[str, Any], out: U8, /) -> Answer:
        """Writes a whole text and a NUL; answers the bytes of both.

        `options` are the fields of GenOptions and `stop_tokens`, a U32 view.
        """
        ...


class HostV2(Dimensions, Protocol):
    """The imports of ABI v2; V = vocab_size."""

    def realm_abi_version(self) -> int:
        """Answers 2."""
        ...

    def realm_model_info(self, model: int, out: U8, /) -> int:
        """Writes a packed ModelInfo; answers its bytes."""
        ...

    def realm_encode(self, model: int, text: str, flags: int, out: U32, /) -> Answer:
        """Writes token ids unless `out` is empty; answers their count. Flags: 1 add_bos, 2 parse_special."""
        ...

    def realm_decode(self, model: int, ids: U32, flags: int, out: U8, /) -> Answer:
        """Writes the tokens' raw bytes unless `out` is empty; answers how many. Flags: 1 skip_special."""
        ...

    def realm_model_adapter(self, model: int, id: str, /) -> int:
        """Answers the handle of the model with an adapter."""
        ...

    def realm_session_open(self, model: int, /) -> int:
        """Answers the handle of an empty session."""
        ...

    def realm_session_fork(self, session: int, /) -> int:
        """Answers the handle of a copy."""
        ...

    def realm_session_truncate(self, session: int, length: int, /) -> int:
        """Forgets the positions from `length` on; answers 0."""
        ...

    def realm_session_free(self, session: int, /) -> int:
        """Frees a session; answers 0."""
        ...

    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> Answer:
        """Appends ids [n]; writes the logits of the last `rows` of them, [rows * V]; answers rows.

        `logits` is the guest's whole capacity, which may be more than rows * V.
        """
        ...

    def realm_draft(self, session: int, ids: U32, out: U32, /) -> Answer:
        """Proposes tokens that may follow the session's and ids [n]; answers how many."""
        ...

    def realm_emit(self, session: int, token: int, text: str, logprob: float, flags: int, /) -> Answer:
        """Takes a sampled token and its text; answers 0 to go on, 1 to stop. Flags: 1 stop_token."""
        ...
