"""The v2 guest on a scripted host: what it calls, what it hands on, how it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from realm_abi.errors import ErrorCode, FinishReason
from realm_abi.sandbox import GuestModule, Runtime

Make = Callable[..., Any]
GREEDY: dict[str, Any] = {"model": 1, "temperature": 0.0}
PROMPT = "hello"


@pytest.fixture
def generate(runtime: Runtime, guest_v2: GuestModule) -> Callable[..., int]:
    def run(host: Any, prompt: str = PROMPT, **options: Any) -> int:
        instance = runtime.instantiate(guest_v2, host)
        try:
            return instance.generate_v2(prompt, **(GREEDY | options))
        finally:
            instance.close()

    return run


def text_of(host: Any) -> str:
    return "".join(emitted.text for emitted in host.emitted)


def test_emits_every_token_once_and_frees_the_session(scripted: Make, generate: Make) -> None:
    host = scripted([b"a", b" b", b" c"], PROMPT)
    assert generate(host) == FinishReason.stop_token
    assert [emitted.token for emitted in host.emitted] == [1, 2, 3, 0]
    assert [emitted.flags for emitted in host.emitted] == [0, 0, 0, 1]
    assert text_of(host) == "a b c"
    assert all(math.isnan(emitted.logprob) for emitted in host.emitted)
    assert host.sessions == {}
    assert host.names().count("realm_session_free") == 1
    assert host.names()[-1] == "realm_session_free"


def test_max_tokens_needs_no_forward_after_the_last(scripted: Make, generate: Make) -> None:
    host = scripted([b"a"] * 9, PROMPT)
    assert generate(host, max_tokens=4) == FinishReason.max_tokens
    assert len(host.emitted) == 4
    assert host.names().count("realm_forward") == 1 + 3


def test_max_tokens_0_encodes_and_opens_nothing(scripted: Make, generate: Make) -> None:
    host = scripted([b"a"], PROMPT)
    assert generate(host, max_tokens=0) == FinishReason.max_tokens
    assert host.names() == ["realm_abi_version", "realm_model_info", "realm_encode"]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
def test_prefill_in_chunks_of_the_request(scripted: Make, generate: Make, chunk: int) -> None:
    host = scripted([b"a"], PROMPT)
    generate(host, prefill_chunk=chunk, max_tokens=1)
    forwards = [call[1:] for call in host.calls if call[0] == "realm_forward"]
    ids = [ord(character) for character in PROMPT]
    chunks = [ids[start : start + chunk] for start in range(0, len(ids), chunk)]
    assert forwards == [(piece, int(piece is chunks[-1])) for piece in chunks]


def test_empty_prompt_is_an_invalid_argument(scripted: Make, generate: Make) -> None:
    host = scripted([b"a"], "")
    assert generate(host, "") == ErrorCode.invalid_argument
    assert "realm_session_open" not in host.names()


def test_the_end_of_the_context_is_max_tokens(scripted: Make, generate: Make) -> None:
    host = scripted([b"a"] * 9, PROMPT, context_length=len(PROMPT) + 2)
    assert generate(host, max_tokens=9) == FinishReason.max_tokens
    assert len(host.emitted) == 3, "the last position's logits still give a token"


def test_a_prompt_as_long_as_the_context_gives_one_token(scripted: Make, generate: Make) -> None:
    host = scripted([b"a", b"b"], PROMPT, context_length=len(PROMPT))
    assert generate(host) == FinishReason.max_tokens
    assert text_of(host) == "a"


def test_a_prompt_beyond_the_context_is_context_full(scripted: Make, generate: Make) -> None:
    host = scripted([b"a"], PROMPT, context_length=len(PROMPT) - 1)
    assert generate(host) == ErrorCode.context_full
    assert "realm_forward" not in host.names()


def test_stop_string_across_tokens_is_held_back_and_cut(scripted: Make, generate: Make) -> None:
    host = scripted([b"one ST", b"O", b"P two"], PROMPT)
    assert generate(host, stop_strings=["STOP"]) == FinishReason.stop_string
    assert [emitted.text for emitted in host.emitted] == ["one ", "", ""]


def test_what_only_looked_like_a_stop_string_comes_later(scripted: Make, generate: Make) -> None:
    host = scripted([b"one ST", b"ILL", b" ST"], PROMPT)
    assert generate(host, stop_strings=["STOP"]) == FinishReason.stop_token
    assert [emitted.text for emitted in host.emitted] == ["one ", "STILL", " ", "ST"]


def test_max_tokens_hands_on_what_is_held_back(scripted: Make, generate: Make) -> None:
    host = scripted([b"one ST", b"ILL"], PROMPT)
    generate(host, stop_strings=["STOP"], max_tokens=1)
    assert text_of(host) == "one ST"


def test_empty_stop_string_is_an_invalid_argument(scripted: Make, generate: Make) -> None:
    assert generate(scripted([b"a"], PROMPT), stop_strings=["x", ""]) == ErrorCode.invalid_argument


def test_characters_are_assembled_across_tokens(scripted: Make, generate: Make) -> None:
    host = scripted([b"\xf0\x9f", b"\x98", b"\x80!", b"\xe2\x82"], PROMPT)
    generate(host)
    assert [emitted.text for emitted in host.emitted] == [
        "",
        "",
        "\N{GRINNING FACE}!",
        "",
        "\N{REPLACEMENT CHARACTER}",
    ]


def test_nul_and_long_pieces_pass(scripted: Make, generate: Make) -> None:
    long = b"x" * 300_000
    host = scripted([b"a\0b", long], PROMPT)
    generate(host)
    assert text_of(host) == "a\0b" + long.decode()


def test_a_prompt_of_a_mebibyte_passes(scripted: Make, generate: Make) -> None:
    prompt = "p" * (1 << 20)
    host = scripted([b"a"], prompt, context_length=1 << 21)
    assert generate(host, prompt, prefill_chunk=1 << 19) == FinishReason.stop_token
    assert text_of(host) == "a"


def test_stop_tokens_of_the_request(scripted: Make, generate: Make) -> None:
    host = scripted([b"a", b"b", b"c"], PROMPT)
    assert generate(host, stop_tokens=[77, 3]) == FinishReason.stop_token
    assert text_of(host) == "ab"


def test_ignore_eos_goes_on(scripted: Make, generate: Make) -> None:
    host = scripted([b"a"], PROMPT)
    assert generate(host, ignore_eos=True, max_tokens=5) == FinishReason.max_tokens
    assert [emitted.flags for emitted in host.emitted] == [0] * 5


def test_flags_of_encode(scripted: Make, generate: Make) -> None:
    for options, flags in (({}, 2), ({"add_bos": True}, 3), ({"plain_text": True}, 0)):
        host = scripted([b"a"], PROMPT)
        generate(host, **options)
        assert ("realm_encode", 1, PROMPT, flags) in host.calls


def test_logprobs_are_of_the_raw_logits(scripted: Make, generate: Make) -> None:
    host = scripted([b"a", b"b"], PROMPT)
    generate(host, want_logprobs=True, repetition_penalty=1.5)
    logits = np.zeros(len(host.vocabulary))
    logits[1] = 5
    expected = 5 - np.log(np.exp(logits).sum())
    assert [emitted.logprob for emitted in host.emitted] == pytest.approx([expected] * 3, abs=1e-6)


def test_emit_stops_at_once(scripted: Make, generate: Make) -> None:
    host = scripted([b"a", b"b", b"c"], PROMPT, stop_after=2)
    assert generate(host) == FinishReason.stopped
    assert host.names()[-2:] == ["realm_emit", "realm_session_free"]
    assert len(host.emitted) == 2


CALLED_ONCE = ("realm_abi_version", "realm_model_info", "realm_encode", "realm_session_open")
CALLED_OFTEN = ("realm_forward", "realm_decode", "realm_emit")


@pytest.mark.parametrize("name", CALLED_ONCE + CALLED_OFTEN)
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("code", [ErrorCode.cancelled, ErrorCode.internal, ErrorCode.context_full])
def test_errors_end_it_and_reach_the_caller(
    scripted: Make, generate: Make, name: str, number: int, code: ErrorCode
) -> None:
    if name in CALLED_ONCE:
        number = 0
    host = scripted([b"a", b"b", b"c", b"d"], PROMPT, answers={(name, number): int(code)})
    assert generate(host) == code
    opened = name not in CALLED_ONCE
    assert host.names()[-2:] == [name, "realm_session_free"] if opened else host.names()[-1] == name
    assert host.names().count(name) == number + 1
    assert host.sessions == {}


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("realm_model_info", 23),
        ("realm_encode", 1 << 30),
        ("realm_session_open", 0),
        ("realm_forward", 0),
        ("realm_forward", 2),
        ("realm_decode", 1 << 30),
        ("realm_emit", 2),
    ],
)
def test_results_that_cannot_be_are_internal(scripted: Make, generate: Make, name: str, answer: int) -> None:
    host = scripted([b"a", b"b"], PROMPT, answers={(name, 0): answer})
    assert generate(host) == ErrorCode.internal
    assert host.sessions == {}


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": math.nan},
        {"top_p": math.nan},
        {"top_p": -0.1},
        {"min_p": 1.5},
        {"min_p": math.nan},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": math.inf},
    ],
)
def test_options_that_mean_nothing_are_invalid(
    scripted: Make, generate: Make, options: dict[str, float]
) -> None:
    assert generate(scripted([b"a"], PROMPT), **options) == ErrorCode.invalid_argument


def test_an_older_host_is_unsupported(scripted: Make, generate: Make) -> None:
    host = scripted([b"a"], PROMPT, answers={("realm_abi_version", 0): 1})
    assert generate(host) == ErrorCode.unsupported


def test_an_instance_serves_again_with_nothing_left_over(
    runtime: Runtime, guest_v2: GuestModule, scripted: Make
) -> None:
    host = scripted([b"one S", b"T"], PROMPT)
    instance = runtime.instantiate(guest_v2, host)
    sizes = []
    for _ in range(20):
        host.emitted.clear()
        assert instance.generate_v2(PROMPT, model=1, temperature=0.0, stop_strings=["STOP"]) == 0
        assert text_of(host) == "one ST"
        sizes.append(len(instance.memory.data()))
    assert len(set(sizes)) == 1, "memory is used again"
