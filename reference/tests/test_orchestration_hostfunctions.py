"""The host functions called as the guard calls them: ownership, refusals, what is written where."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from realm_abi.contract import load_contract
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.steps import settled
from realm_reference.engine import Engine
from realm_reference.model.adapters import Adapter, Factors
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model
from realm_reference.orchestration import Generation, GenerationRequest, GuestLimits
from realm_reference.orchestration.hostfunctions_v1 import HostFunctionsV1
from realm_reference.orchestration.hostfunctions_v2 import HostFunctionsV2
from realm_reference.orchestration.request import prepare_prompt

MODEL = 1


def u8(size: int) -> np.ndarray:
    return np.zeros(size, np.uint8)


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, np.uint32)


class Hosts:
    """Hosts of requests on one engine; each is another guest's."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.engine = Engine(ArrayRunner(model.transformer))
        self.made: list[HostFunctionsV1 | HostFunctionsV2] = []

    def make(self, kind: type[Any]) -> Any:
        prompt = prepare_prompt(self.model.tokenizer, "hello", abi_version=2)
        host = kind(
            self.model, self.engine, GenerationRequest(prompt, 4), Generation(60), GuestLimits(sessions=2)
        )
        self.made.append(host)
        return host


@pytest.fixture
async def hosts(tiny_model: Model) -> AsyncIterator[Hosts]:
    hosts = Hosts(tiny_model)
    yield hosts
    for host in hosts.made:
        host.close()
    assert hosts.engine.open_sessions == 0
    hosts.engine.close()


@pytest.fixture
async def v1(hosts: Hosts) -> HostFunctionsV1:
    host: HostFunctionsV1 = hosts.make(HostFunctionsV1)
    return host


@pytest.fixture
async def v2(hosts: Hosts) -> HostFunctionsV2:
    host: HostFunctionsV2 = hosts.make(HostFunctionsV2)
    return host


def refused(call: Callable[[], object]) -> ErrorCode:
    with pytest.raises(AbiError) as caught:
        call()
    return caught.value.code


async def test_v2_fork_truncate_and_free(v2: HostFunctionsV2, tiny_model: Model) -> None:
    vocab = tiny_model.transformer.vocab_size
    first, second = np.zeros(vocab, np.float32), np.zeros(vocab, np.float32)
    session = v2.realm_session_open(MODEL)
    settled(v2.realm_forward(session, ids(5, 6, 7), first, 1))
    fork = v2.realm_session_fork(session)
    assert fork != session
    assert v2.realm_session_truncate(fork, 2) == 0
    assert settled(v2.realm_forward(fork, ids(7), second, 1)) == 1
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert refused(lambda: v2.realm_session_open(MODEL)) is ErrorCode.limit_exceeded
    assert v2.realm_session_free(fork) == 0
    assert refused(lambda: v2.realm_session_free(fork)) is ErrorCode.invalid_handle
    assert v2.realm_session_open(MODEL) not in (session, fork), "handles are never used twice"


async def test_v2_model_info(v2: HostFunctionsV2, tiny_model: Model) -> None:
    out = u8(24)
    assert v2.realm_model_info(MODEL, out) == 24
    info = load_contract().structs["ModelInfo"].unpack(out.tobytes())
    assert info["vocab_size"] == tiny_model.transformer.vocab_size
    assert (info["num_layers"], info["context_length"]) == (2, 640)
    assert (info["bos_token"], info["eos_token"]) == (1, tiny_model.tokenizer.eos_ids[0])


async def test_v2_encode_and_decode_ask_for_sizes_and_write_all_or_nothing(v2: HostFunctionsV2) -> None:
    needed = v2.realm_encode(MODEL, "hello you", 0, ids())
    out = np.zeros(needed, np.uint32)
    assert v2.realm_encode(MODEL, "hello you", 0, out) == needed
    assert v2.realm_encode(MODEL, "hello you", 1, np.zeros(99, np.uint32)) == needed + 1
    small = np.zeros(needed - 1, np.uint32)
    assert refused(lambda: v2.realm_encode(MODEL, "hello you", 0, small)) is ErrorCode.buffer_too_small
    assert not small.any()
    size = v2.realm_decode(MODEL, out, 0, u8(0))
    text = u8(size)
    assert v2.realm_decode(MODEL, out, 0, text) == size
    assert text.tobytes() == b"hello you"
    assert v2.realm_decode(MODEL, ids(2), 1, u8(9)) == 0
    assert refused(lambda: v2.realm_decode(MODEL, ids(2**32 - 1), 0, u8(9))) is ErrorCode.invalid_argument


async def test_v2_there_is_no_draft_model(v2: HostFunctionsV2) -> None:
    session = v2.realm_session_open(MODEL)
    assert refused(lambda: v2.realm_draft(session, ids(1), ids(0, 0))) is ErrorCode.unsupported


async def test_a_guest_reaches_only_what_is_its_own(hosts: Hosts, v2: HostFunctionsV2) -> None:
    neighbour = hosts.make(HostFunctionsV2)
    for _ in range(2):
        foreign = neighbour.realm_session_open(MODEL)
    v2.realm_session_open(MODEL)
    for call in (
        lambda: settled(v2.realm_forward(foreign, ids(1), np.zeros(0, np.float32), 0)),
        lambda: v2.realm_session_free(foreign),
        lambda: v2.realm_session_fork(foreign),
        lambda: v2.realm_emit(foreign, 5, "x", -1.0, 0),
        lambda: v2.realm_model_info(2, u8(24)),
        lambda: v2.dims("model", 2),
        lambda: v2.dims("session", 99),
    ):
        assert refused(call) is ErrorCode.invalid_handle


async def test_v1_models_are_the_operators(v1: HostFunctionsV1, tiny_model: Model) -> None:
    assert v1.realm_host_load_model_by_name(tiny_model.name) == MODEL
    for name in ("other", "../tiny", f"/{tiny_model.name}", ""):
        assert refused(lambda name=name: v1.realm_host_load_model_by_name(name)) is ErrorCode.not_found
    assert refused(lambda: v1.realm_store_model(u8(8), 0)) is ErrorCode.permission_denied
    assert refused(lambda: v1.realm_store_draft_model(u8(8), 0)) is ErrorCode.permission_denied
    assert refused(lambda: v1.realm_remove_model(MODEL)) is ErrorCode.permission_denied
    assert refused(lambda: v1.realm_remove_model(7)) is ErrorCode.invalid_handle
    assert v1.realm_set_lora_adapter(MODEL, "") == 0
    assert refused(lambda: v1.realm_set_lora_adapter(MODEL, "x")) is ErrorCode.not_found


async def test_v1_metadata(v1: HostFunctionsV1, tiny_model: Model) -> None:
    out = u8(1000)
    written = v1.realm_get_model_metadata(MODEL, out)
    metadata = json.loads(out[:written].tobytes())
    assert metadata["has_tokenizer"] is True
    assert metadata["config"]["num_kv_heads"] == tiny_model.config.n_kv_heads
    assert metadata["config"]["max_seq_len"] == 640
    assert refused(lambda: v1.realm_get_model_metadata(MODEL, u8(10))) is ErrorCode.buffer_too_small


async def test_a_spent_budget_still_lets_a_guest_clean_up(hosts: Hosts, v2: HostFunctionsV2) -> None:
    session = v2.realm_session_open(MODEL)
    v2._calls_left = 0
    assert refused(lambda: v2.realm_session_truncate(session, 0)) is ErrorCode.limit_exceeded
    assert v2.realm_session_free(session) == 0


def drawn(model: Model, name: str) -> Adapter:
    """Factors of ones in the last layer's down."""
    config = model.config
    factors = Factors(
        np.ones((1, config.intermediate_size), np.float32), np.ones((config.hidden_size, 1), np.float32)
    )
    return Adapter(name, (*({} for _ in range(config.n_layers - 1)), {"down": factors}), name)


async def test_guests_choose_adapters_by_name(hosts: Hosts, tiny_model: Model) -> None:
    for name in ("fr", "secret"):
        hosts.engine.adapters.load(drawn(tiny_model, name))
    hosts.engine.adapters.restrict({"secret": {"another"}})

    def last(host: HostFunctionsV2, model: int) -> NDArray[np.float32]:
        session = host.realm_session_open(model)
        logits = np.zeros(tiny_model.vocab_size, np.float32)
        settled(host.realm_forward(session, ids(1, 5, 9), logits, 1))
        host.realm_session_free(session)
        return logits

    v2: HostFunctionsV2 = hosts.make(HostFunctionsV2)
    base, adapted = last(v2, MODEL), last(v2, v2.realm_model_adapter(MODEL, "fr"))
    assert np.any(base != adapted)
    np.testing.assert_array_equal(last(v2, MODEL), base)
    assert refused(lambda: v2.realm_model_adapter(MODEL, "it")) is ErrorCode.not_found
    assert refused(lambda: v2.realm_model_adapter(MODEL, "secret")) is ErrorCode.permission_denied
    assert refused(lambda: v2.realm_model_adapter(99, "fr")) is ErrorCode.invalid_handle
    assert refused(lambda: v2.realm_session_open(99)) is ErrorCode.invalid_handle
    np.testing.assert_array_equal(last(v2, v2.realm_model_adapter(MODEL, "")), base)
    assert refused(lambda: v2.realm_model_adapter(MODEL, "fr")) is ErrorCode.limit_exceeded
    v1: HostFunctionsV1 = hosts.make(HostFunctionsV1)
    assert v1.realm_set_lora_adapter(MODEL, "fr") == 0
    assert refused(lambda: v1.realm_set_lora_adapter(MODEL, "secret")) is ErrorCode.permission_denied
    hosts.engine.adapters.unload("fr")
    assert hosts.engine.adapters.count == 2
    for host in (v1, v2):
        host.close()
    assert hosts.engine.adapters.count == 1
