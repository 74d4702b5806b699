"""The request validator: every parameter in type and range, every refusal with its name, no input that
breaks it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_reference.server.errors import ApiError
from realm_reference.server.requests.chat_request import ChatRequest, parse_chat_request
from realm_reference.server.wire import jsonbody

HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def parse(**changes: Any) -> ChatRequest:
    return parse_chat_request({**HELLO, **changes})


def refused(body: dict[str, Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_chat_request(body)
    assert caught.value.status == 400
    assert set(caught.value.body()["error"]) == {"message", "type", "param", "code"}
    return caught.value


def test_the_smallest_request_has_openais_defaults() -> None:
    request = parse()
    assert (request.temperature, request.top_p, request.stream, request.stop) == (1.0, 1.0, False, ())
    assert (request.max_tokens, request.seed, request.include_usage) == (None, None, False)


def test_null_is_the_default_everywhere() -> None:
    names = [
        name
        for name in vars(parse())
        if name not in ("model", "messages", "include_usage", "max_tokens_name", "tool_use")
    ]
    others = ["stream_options", "n", "tools", "logit_bias", "logprobs", "user", "response_format", "metadata"]
    assert parse(**dict.fromkeys([*names, *others])) == parse()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("temperature", 0, 0.0),
        ("temperature", 2, 2.0),
        ("temperature", -0.0, 0.0),
        ("top_p", 0, 0.0),
        ("top_p", 1, 1.0),
        ("top_k", 0, 0),
        ("top_k", 40, 40),
        ("top_k", 40.0, 40),
        ("min_p", 0.05, 0.05),
        ("repetition_penalty", 1.1, 1.1),
        ("max_tokens", 1, 1),
        ("seed", 2**63 - 1, 2**63 - 1),
        ("seed", -(2**63), -(2**63)),
        ("stop", "a", ("a",)),
        ("stop", ["a", "b", "c", "d"], ("a", "b", "c", "d")),
        ("stream", True, True),
        ("n", 8, 8),
        ("presence_penalty", -2, -2.0),
        ("frequency_penalty", 2, 2.0),
        ("logit_bias", {"17": -100, "0": 1.5}, {17: -100.0, 0: 1.5}),
    ],
)
def test_accepted(name: str, value: Any, expected: Any) -> None:
    assert getattr(parse(**{name: value}), name) == expected


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("temperature", 2.0001, "out_of_range"),
        ("temperature", -0.1, "out_of_range"),
        ("temperature", 10**400, "out_of_range"),
        ("temperature", "1", "invalid_type"),
        ("temperature", True, "invalid_type"),
        ("top_p", 1.1, "out_of_range"),
        ("top_k", -1, "out_of_range"),
        ("top_k", 1.5, "invalid_type"),
        ("min_p", 1.5, "out_of_range"),
        ("repetition_penalty", 0, "out_of_range"),
        ("max_tokens", 0, "out_of_range"),
        ("max_tokens", -1, "out_of_range"),
        ("max_completion_tokens", 0, "out_of_range"),
        ("max_tokens", "5", "invalid_type"),
        ("max_tokens", [5], "invalid_type"),
        ("seed", 2**63, "out_of_range"),
        ("seed", "7", "invalid_type"),
        ("stop", [], "out_of_range"),
        ("stop", ["a"] * 5, "out_of_range"),
        ("stop", "", "out_of_range"),
        ("stop", [1], "invalid_type"),
        ("stop", 1, "invalid_type"),
        ("stream", "true", "invalid_type"),
        ("stream", 1, "invalid_type"),
        ("model", 5, "invalid_type"),
        ("messages", [], "out_of_range"),
        ("messages", [{"role": "user", "content": ""}] * 2049, "out_of_range"),
        ("messages", "hi", "invalid_type"),
        ("user", 5, "invalid_type"),
        ("metadata", [], "invalid_type"),
        ("temprature", 1, "unknown_parameter"),
        ("n", 0, "out_of_range"),
        ("n", 129, "out_of_range"),
        ("n", 9, "unsupported_parameter"),
        ("n", True, "invalid_type"),
        ("logprobs", 5, "invalid_type"),
        ("top_logprobs", 21, "out_of_range"),
        ("top_logprobs", -1, "out_of_range"),
        ("top_logprobs", 2, "invalid_value"),
        ("logit_bias", {"x": 5}, "invalid_value"),
        ("logit_bias", {"-1": 5}, "invalid_value"),
        ("logit_bias", {"1.0": 5}, "invalid_value"),
        ("logit_bias", {"\u0661": 5}, "invalid_value"),
        ("logit_bias", [1], "invalid_type"),
        ("frequency_penalty", 2.5, "out_of_range"),
        ("presence_penalty", -2.5, "out_of_range"),
        ("presence_penalty", "1", "invalid_type"),
        ("tool_choice", "required", "invalid_value"),
        ("functions", [{"name": "f"}], "unsupported_parameter"),
    ],
)
def test_refused_with_the_parameters_name(name: str, value: Any, code: str) -> None:
    error = refused({**HELLO, name: value})
    assert (error.param, error.code) == (name, code)
    assert name in error.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logit_bias", {}),
        ("frequency_penalty", 0),
        ("presence_penalty", 0.0),
        ("tools", []),
        ("tool_choice", "none"),
        ("response_format", {"type": "text"}),
        ("user", "someone"),
        ("metadata", {"a": "b"}),
        ("service_tier", "auto"),
        ("store", False),
    ],
)
def test_the_neutral_value_of_what_is_not_supported_passes(name: str, value: Any) -> None:
    assert parse(**{name: value}) == parse()


@pytest.mark.parametrize("name", ["model", "messages"])
@pytest.mark.parametrize("how", ["absent", "null"])
def test_required(name: str, how: str) -> None:
    body = {**HELLO, name: None} if how == "null" else {k: v for k, v in HELLO.items() if k != name}
    error = refused(body)
    assert (error.param, error.code) == (name, "missing_required_parameter")


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("hi", "messages[0]"),
        ({"content": "x"}, "messages[0].role"),
        ({"role": "wizard", "content": "x"}, "messages[0].role"),
        ({"role": "function", "content": "x", "name": "f"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": None}, "messages[0].content"),
        ({"role": "user", "content": 5}, "messages[0].content"),
        ({"role": "user", "content": []}, "messages[0].content"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "noise"}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": "x", "colour": 1}, "messages[0].colour"),
        ({"role": "assistant", "content": "x", "tool_calls": [{}]}, "messages[0].tool_calls[0].type"),
        ({"role": "user", "content": "x", "tool_calls": [{}]}, "messages[0].tool_calls"),
        ({"role": "assistant", "tool_calls": []}, "messages[0].content"),
        ({"role": "tool", "content": "x"}, "messages[0].tool_call_id"),
    ],
)
def test_a_bad_message_is_named(message: Any, param: str) -> None:
    assert refused({**HELLO, "messages": [message]}).param == param


def test_text_parts_are_joined_and_roles_mapped() -> None:
    messages = parse(
        messages=[
            {
                "role": "developer",
                "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}],
            },
            {"role": "assistant", "content": "ok", "refusal": None, "tool_calls": None},
            {"role": "tool", "content": "4", "tool_call_id": "call_1"},
        ]
    ).messages
    assert [m.for_template() for m in messages] == [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "ok"},
        {"role": "tool", "content": "4", "tool_call_id": "call_1"},
    ]


def test_stream_options() -> None:
    assert parse(stream=True, stream_options={"include_usage": True}).include_usage
    assert not parse(stream=True, stream_options={}).include_usage
    assert not parse(stream=True, stream_options={"include_usage": None}).include_usage
    assert refused({**HELLO, "stream_options": {"include_usage": True}}).param == "stream_options"
    for options, param in (
        ({"include_usage": 1}, "stream_options.include_usage"),
        ({"usage": True}, "stream_options.usage"),
        ({"include_obfuscation": True}, "stream_options.include_obfuscation"),
    ):
        assert refused({**HELLO, "stream": True, "stream_options": options}).param == param


def test_a_bias_out_of_range_is_named_with_its_token() -> None:
    assert refused({**HELLO, "logit_bias": {"5": 100.5}}).param == "logit_bias.5"
    assert refused({**HELLO, "logit_bias": {"5": "much"}}).param == "logit_bias.5"


def test_logprobs_and_their_alternatives() -> None:
    assert parse().top_logprobs is None
    assert parse(logprobs=False).top_logprobs is None
    assert parse(logprobs=True).top_logprobs == 0
    assert parse(logprobs=True, top_logprobs=20).top_logprobs == 20
    assert refused({**HELLO, "logprobs": False, "top_logprobs": 0}).param == "top_logprobs"


def test_the_two_names_of_the_token_limit() -> None:
    assert parse(max_completion_tokens=7).max_tokens == 7
    assert parse(max_completion_tokens=7, max_tokens=7).max_tokens == 7
    assert refused({**HELLO, "max_completion_tokens": 7, "max_tokens": 8}).param == "max_tokens"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"null",
        b'"text"',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b"9" * 10_000 + b"}",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'\xef\xbb\xbf{"a": 1}',
    ],
)
def test_bad_json_is_a_400(raw: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        jsonbody.parse(raw)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


def test_surrogate_pairs_are_fine() -> None:
    assert jsonbody.parse(b'{"a": "\\ud83d\\ude00"}') == {"a": "\N{GRINNING FACE}"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
# fmt: off
NAMES = st.sampled_from([
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens",
    "temperature", "top_p", "top_k", "min_p", "stop", "seed", "repetition_penalty", "n", "tools",
    "response_format", "metadata", "user", "logit_bias", "modalities", "functions", "x",
])
# fmt: on
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "tool"]) | JSON, "content": JSON}),
    max_size=3,
)


def check_refusal(error: ApiError) -> None:
    assert error.status == 400
    assert error.message
    json.dumps(error.body(), ensure_ascii=False).encode()


@given(changes=st.dictionaries(NAMES, JSON, max_size=4), messages=st.just(HELLO["messages"]) | MESSAGES)
def test_random_json_is_accepted_or_refused_with_a_400(changes: dict[str, Any], messages: Any) -> None:
    raw = json.dumps({**HELLO, "messages": messages, **changes}).encode("utf-8", "surrogatepass")
    try:
        request = parse_chat_request(jsonbody.parse(raw))
    except ApiError as error:
        check_refusal(error)
    else:
        assert request.messages
        assert 0 <= request.temperature <= 2


@given(st.binary(max_size=64))
def test_random_bytes_are_parsed_or_refused_with_a_400(raw: bytes) -> None:
    try:
        assert isinstance(jsonbody.parse(raw), dict)
    except ApiError as error:
        check_refusal(error)
