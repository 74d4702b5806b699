"""The v1 guest on a scripted host: Realm's loop, call by call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.sandbox import GuestModule, Runtime

Make = Callable[..., Any]
PROMPT = "hello, world"
GREEDY: dict[str, Any] = {"temperature": 0.0, "repetition_penalty": 1.0, "stop_tokens": [0]}


@pytest.fixture(scope="session")
def generate(runtime: Runtime, guest_v1: GuestModule) -> Callable[..., str]:
    def run(host: Any, prompt: str = PROMPT, **changed: Any) -> str:
        options: Any = GREEDY | changed
        instance = runtime.instantiate(guest_v1, host)
        try:
            return instance.generate_v1(prompt, 1, options).decode()
        finally:
            instance.close()

    return run


@given(prompt=st.integers(1, 40), tokens=st.integers(1, 20), layers=st.integers(1, 5))
def test_trace_is_that_of_the_formula(
    scripted: Make, generate: Make, prompt: int, tokens: int, layers: int
) -> None:
    host = scripted([b"x"] * 30, "p" * prompt, num_layers=layers, context_length=100)
    assert generate(host, "p" * prompt, max_tokens=tokens) == "x" * tokens
    names = host.names()
    embedded = -(-prompt // 8) + tokens - 1
    assert names.count("realm_embed_tokens") == names.count("realm_compute_logits") == embedded
    assert names.count("realm_forward_layer") == layers * embedded
    assert names.count("realm_stream_token") == tokens


def test_chunks_layers_and_positions(scripted: Make, generate: Make) -> None:
    host = scripted([b"a", b"b"], PROMPT, num_layers=2)
    generate(host)
    layers = [call[1:] for call in host.calls if call[0] == "realm_forward_layer"]
    assert layers == [
        *((0, 0, 8), (1, 0, 8)),
        *((0, 8, 4), (1, 8, 4)),
        *((0, 12, 1), (1, 12, 1)),
        *((0, 13, 1), (1, 13, 1)),
    ]
    hidden = [call[1] for call in host.calls if call[0] == "realm_compute_logits"]
    assert hidden == [8 + 2, 12 + 2, 13 + 2, 14 + 2], "what the last layer wrote is what logits are made of"


def test_streams_what_it_returns(scripted: Make, generate: Make) -> None:
    host = scripted([b"a", b"\xc3", b"\xa9", b"\xf0\x9f"], PROMPT)
    assert generate(host) == "a\u00e9\ufffd"
    assert host.streamed == ["a", "", "\u00e9", "", "\ufffd"], "what was held back comes after the stop token"


def test_the_last_token_carries_what_was_held_back(scripted: Make, generate: Make) -> None:
    host = scripted([b"a", b"\xf0\x9f"], PROMPT)
    assert generate(host, max_tokens=2) == "a\ufffd"
    assert host.streamed == ["a", "\ufffd"]


def test_nothing_after_a_stop_token_if_nothing_is_held_back(scripted: Make, generate: Make) -> None:
    host = scripted([b"a"], PROMPT)
    generate(host)
    assert host.streamed == ["a"]


def test_defaults_without_options(runtime: Runtime, guest_v1: GuestModule, scripted: Make) -> None:
    host = scripted([b"a"] * 40, PROMPT, context_length=20)
    text = runtime.instantiate(guest_v1, host).generate_v1(PROMPT, 1)
    assert len(host.streamed) == 20 - len(PROMPT) + 1, "until the context ends: 512 do not fit"
    assert "".join(host.streamed).encode() == text


def test_max_tokens_0(scripted: Make, generate: Make) -> None:
    host = scripted([b"a"], PROMPT)
    assert generate(host, max_tokens=0) == ""
    assert host.names() == ["realm_get_model_metadata", "realm_encode_tokens"]


def test_text_is_not_capped(scripted: Make, generate: Make) -> None:
    host = scripted([b"x" * 100_000] * 5, PROMPT)
    assert generate(host) == "x" * 500_000


def test_stream_asks_to_stop(scripted: Make, generate: Make) -> None:
    host = scripted([b"a", b"b", b"c"], PROMPT, stop_after=2)
    assert generate(host) == "ab"
    assert host.names()[-1] == "realm_stream_token"


IMPORTS = {
    "realm_get_model_metadata": 1,
    "realm_encode_tokens": 1,
    "realm_embed_tokens": 3,
    "realm_forward_layer": 4,
    "realm_compute_logits": 3,
    "realm_decode_tokens": 2,
    "realm_stream_token": 2,
}


@pytest.mark.parametrize("code", [ErrorCode.cancelled, ErrorCode.out_of_memory])
@pytest.mark.parametrize(
    ("name", "number"), [(name, n) for name, count in IMPORTS.items() for n in range(count)]
)
def test_errors_end_it(scripted: Make, generate: Make, name: str, number: int, code: ErrorCode) -> None:
    host = scripted([b"a", b"b", b"c"], PROMPT, answers={(name, number): int(code)})
    with pytest.raises(AbiError) as caught:
        generate(host)
    assert caught.value.code is code
    assert host.names()[-1] == name, "no call after a fatal error"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        *((name, 1 << 30) for name in IMPORTS if name != "realm_stream_token"),
        *((f"realm_{name}", 3) for name in ("embed_tokens", "forward_layer", "compute_logits")),
    ],
)
def test_results_that_cannot_be(scripted: Make, generate: Make, name: str, answer: int) -> None:
    host = scripted([b"a", b"b"], PROMPT, answers={(name, 0): answer})
    with pytest.raises(AbiError):
        generate(host)
    assert host.names()[-1] == name


def test_serves_again_with_nothing_left_over(runtime: Runtime, guest_v1: GuestModule, scripted: Make) -> None:
    host = scripted([b"a", b"\xc3"], PROMPT)
    instance = runtime.instantiate(guest_v1, host)
    sizes = set()
    options: Any = GREEDY
    for _ in range(20):
        host._embedded.clear()
        assert instance.generate_v1(PROMPT, 1, options).decode() == "a\ufffd"
        sizes.add(len(instance.memory.data()))
    assert len(sizes) == 1
