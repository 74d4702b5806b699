"""What the tests of this package share: the guest's parts as a module, and a small scripted host."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import wasmtime
from numpy.typing import NDArray
from realm_abi.contract import load_contract
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.guests import guest_bytes
from realm_abi.hostapi import F32, U8, U32
from realm_abi.sandbox import GuestModule, Runtime

HERE = Path(__file__).resolve().parent
EOS = 0
Row = Callable[[list[int]], NDArray[np.float32]]


@pytest.fixture(scope="session")
def guest_build() -> ModuleType:
    """The guest's build script as a module."""
    spec = importlib.util.spec_from_file_location("guest_build", HERE.parent / "guest" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Units:
    """The guest's parts, called one by one."""

    def __init__(self, wasm: bytes) -> None:
        engine = wasmtime.Engine()
        self.store = wasmtime.Store(engine)
        module = wasmtime.Module(engine, wasm)
        self._exports = wasmtime.Instance(self.store, module, []).exports(self.store)
        memory = self._exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        self._memory = memory

    def call(self, name: str, *arguments: float) -> Any:
        function = self._exports[name]
        assert isinstance(function, wasmtime.Func)
        return function(self.store, *arguments)

    def put(self, data: bytes) -> int:
        """Memory of the guest's allocator with these bytes in it."""
        pointer: int = self.call("realm_alloc", max(1, len(data)))
        self._memory.write(self.store, data, pointer)
        return pointer

    def write(self, pointer: int, data: bytes) -> None:
        self._memory.write(self.store, data, pointer)

    def read(self, pointer: int, size: int) -> bytes:
        return bytes(self._memory.read(self.store, pointer, pointer + size))


@pytest.fixture(scope="session")
def units(guest_build: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Units:
    """The guest's parts, built with the tests' exports."""
    output = tmp_path_factory.mktemp("units") / "units.wasm"
    sources = [f"{name}.c" for name in (*guest_build.COMMON, "json", "lookup")]
    guest_build.compile_guest(sources, output, extra=[HERE / "guest_units.c"])
    return Units(output.read_bytes())


@pytest.fixture(scope="session")
def guest_v1(runtime: Runtime) -> GuestModule:
    return runtime.compile(guest_bytes("v1"))


@pytest.fixture(scope="session")
def guest_v2(runtime: Runtime) -> GuestModule:
    return runtime.compile(guest_bytes("v2"))


@dataclass
class Emitted:
    """One call of realm_emit."""

    token: int
    text: str
    logprob: float
    flags: int


@dataclass
class ScriptedHost:
    """A host without a model: token i is `vocabulary[i]`, the logits are a function of the tokens so far.

    One prompt character is one token, its code point, so the context is easy to predict. `answers` replaces
    what the n-th call (from 0) of a function would answer.
    """

    vocabulary: Sequence[bytes]
    row: Row
    context_length: int = 64
    num_layers: int = 3
    hidden_size: int = 4
    eos: int = EOS
    answers: dict[tuple[str, int], int] = field(default_factory=dict)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    sessions: dict[int, list[int]] = field(default_factory=dict)
    emitted: list[Emitted] = field(default_factory=list)
    streamed: list[str] = field(default_factory=list)
    stop_after: int = -1
    _embedded: list[int] = field(default_factory=list)

    def dims(self, kind: str, handle: int, /) -> Mapping[str, int]:
        known = {1} if kind == "model" else self.sessions.keys()
        if handle not in known:
            raise AbiError(ErrorCode.invalid_handle)
        return {"hidden_size": self.hidden_size, "vocab_size": len(self.vocabulary)}

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]

    def _called(self, name: str, *arguments: Any) -> int | None:
        number = self.names().count(name)
        self.calls.append((name, *arguments))
        answer = self.answers.get((name, number))
        if answer is not None and answer < 0:
            raise AbiError(ErrorCode(answer))
        return answer

    # v2

    def realm_abi_version(self) -> int:
        return 2 if (answer := self._called("realm_abi_version")) is None else answer

    def realm_model_info(self, model: int, out: U8, /) -> int:
        answer = self._called("realm_model_info", model)
        struct = load_contract().structs["ModelInfo"]
        packed = struct.pack(
            vocab_size=len(self.vocabulary),
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            context_length=self.context_length,
            eos_token=self.eos,
        )
        out[: len(packed)] = np.frombuffer(packed, np.uint8)
        return len(packed) if answer is None else answer

    def realm_encode(self, model: int, text: str, flags: int, out: U32, /) -> int:
        answer = self._called("realm_encode", model, text, flags)
        return self._encode(text, out) if answer is None else answer

    def _encode(self, text: str, out: U32) -> int:
        ids = [ord(character) for character in text]
        if len(out) and len(ids) > len(out):
            raise AbiError(ErrorCode.buffer_too_small)
        out[: len(ids)] = ids
        return len(ids)

    def realm_decode(self, model: int, ids: U32, flags: int, out: U8, /) -> int:
        answer = self._called("realm_decode", model, ids.tolist(), flags)
        return self._decode(ids, out) if answer is None else answer

    def _decode(self, ids: U32, out: U8) -> int:
        text = b"".join(self.vocabulary[token] for token in ids)
        if len(out) and len(text) > len(out):
            raise AbiError(ErrorCode.buffer_too_small)
        if len(out):
            out[: len(text)] = np.frombuffer(text, np.uint8)
        return len(text)

    def realm_session_open(self, model: int, /) -> int:
        answer = self._called("realm_session_open", model)
        if answer is None:
            answer = 7 + len(self.calls)
            self.sessions[answer] = []
        return answer

    def realm_session_free(self, session: int, /) -> int:
        answer = self._called("realm_session_free", session)
        self.sessions.pop(session)
        return answer or 0

    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> int:
        answer = self._called("realm_forward", ids.tolist(), rows)
        tokens = self.sessions[session]
        tokens.extend(ids.tolist())
        if len(tokens) > self.context_length:
            raise AbiError(ErrorCode.context_full)
        if rows:
            logits[: len(self.vocabulary)] = self.row(tokens)
        return rows if answer is None else answer

    def realm_emit(self, session: int, token: int, text: str, logprob: float, flags: int, /) -> int:
        answer = self._called("realm_emit", token, text)
        self.emitted.append(Emitted(token, text, logprob, flags))
        return int(len(self.emitted) == self.stop_after) if answer is None else answer

    # v1

    def realm_get_model_metadata(self, model_id: int, out: U8, /) -> int:
        answer = self._called("realm_get_model_metadata", model_id)
        config = {
            "vocab_size": len(self.vocabulary),
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "max_seq_len": self.context_length,
            "rope_theta": 1e4,
        }
        text = json.dumps({"config": config, "has_tokenizer": True}).encode()
        out[: len(text)] = np.frombuffer(text, np.uint8)
        return len(text) if answer is None else answer

    def realm_encode_tokens(self, model_id: int, text: str, out: U32, /) -> int:
        answer = self._called("realm_encode_tokens", model_id, text)
        return self._encode(text, out) if answer is None else answer

    def realm_decode_tokens(self, model_id: int, ids: U32, out: U8, /) -> int:
        answer = self._called("realm_decode_tokens", model_id, ids.tolist())
        return self._decode(ids, out) if answer is None else answer

    def realm_embed_tokens(self, model_id: int, ids: U32, out: F32, /) -> int:
        answer = self._called("realm_embed_tokens", ids.tolist())
        self._embedded += ids.tolist()
        out[:] = len(self._embedded)
        return out.nbytes if answer is None else answer

    def realm_forward_layer(self, model_id: int, layer: int, hidden: F32, position: int, out: F32, /) -> int:
        answer = self._called("realm_forward_layer", layer, position, len(hidden) // self.hidden_size)
        out[:] = hidden + 1
        return out.nbytes if answer is None else answer

    def realm_compute_logits(self, model_id: int, hidden: F32, out: F32, /) -> int:
        answer = self._called("realm_compute_logits", float(hidden[0]))
        out[:] = self.row(self._embedded)
        return out.nbytes if answer is None else answer

    def realm_stream_token(self, text: str, /) -> int:
        answer = self._called("realm_stream_token", text)
        self.streamed.append(text)
        return int(len(self.streamed) == self.stop_after) if answer is None else answer


def script(tokens: Sequence[int], prompt: int, vocab_size: int) -> Row:
    """Logits that make these tokens the likeliest, one after the other, after a prompt of that length."""

    def row(context: list[int]) -> NDArray[np.float32]:
        logits = np.zeros(vocab_size, np.float32)
        logits[tokens[min(max(len(context) - prompt, 0), len(tokens) - 1)]] = 5
        return logits

    return row


@pytest.fixture(scope="session")
def scripted() -> Callable[..., ScriptedHost]:
    """Makes hosts that dictate tokens: `scripted(pieces, prompt)` generates these byte strings in turn."""

    def make(pieces: Sequence[bytes], prompt: str, **settings: Any) -> ScriptedHost:
        vocabulary = [b"", *pieces, *(bytes([byte]) for byte in range(128))]
        tokens = [*range(1, len(pieces) + 1), EOS]
        return ScriptedHost(vocabulary, script(tokens, len(prompt), len(vocabulary)), **settings)

    return make
