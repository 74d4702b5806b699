"""The contract file: complete, consistent, and the same as everything that derives from it."""

from __future__ import annotations

import inspect
import re
import struct
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_abi import hostapi
from realm_abi.contract import ContractError, load_contract, parse_contract
from realm_abi.errors import ErrorCode, FinishReason
from realm_abi.generate import GENERATED
from realm_abi.structs import element_size

CONTRACT = load_contract()
TEXT = resources.files("realm_abi").joinpath("contract.toml").read_text("utf-8")

# Realm's interface, as its sources define it: every import with its wasm parameters.
V1 = {
    "realm_store_model": "gguf_ptr gguf_len model_id",
    "realm_store_draft_model": "gguf_ptr gguf_len draft_model_id",
    "realm_host_load_model_by_name": "name_ptr name_len",
    "realm_remove_model": "model_id",
    "realm_get_tensor": "model_id name_ptr name_len out_ptr out_max_bytes",
    "realm_get_model_info": "model_id out_count_ptr out_size_ptr",
    "realm_get_model_metadata": "model_id out_ptr out_max_bytes",
    "realm_set_lora_adapter": "model_id id_ptr id_len",
    "realm_embed_tokens": "model_id ids_ptr n_ids out_ptr",
    "realm_forward_layer": "model_id layer hidden_ptr n_f32 position out_ptr",
    "realm_compute_logits": "model_id hidden_ptr n_f32 out_ptr",
    "realm_encode_tokens": "model_id text_ptr text_len out_ptr out_max_bytes",
    "realm_decode_tokens": "model_id ids_ptr n_ids out_ptr out_max_bytes",
    "realm_stream_token": "text_ptr text_len",
    "realm_host_generate": "model_id prompt_ptr prompt_len options_ptr out_ptr out_max_bytes",
}
V2 = {
    "realm_abi_version": "",
    "realm_model_info": "model out_ptr cap_bytes",
    "realm_encode": "model text_ptr text_len flags out_ptr cap",
    "realm_decode": "model ids_ptr n_ids flags out_ptr cap",
    "realm_model_adapter": "model id_ptr id_len",
    "realm_session_open": "model",
    "realm_session_fork": "session",
    "realm_session_truncate": "session length",
    "realm_session_free": "session",
    "realm_forward": "session ids_ptr n_ids logits_ptr rows cap",
    "realm_draft": "session ids_ptr n_ids out_ptr cap",
    "realm_emit": "session token text_ptr text_len logprob flags",
}


@pytest.mark.parametrize(("version", "expected"), [(1, V1), (2, V2)])
def test_imports_are_those_of_the_interface(version: int, expected: dict[str, str]) -> None:
    found = {function.name: " ".join(function.signature) for function in CONTRACT.imports_of(version)}
    assert found == expected


def test_exports() -> None:
    exports = {
        version: {name: (len(function.signature), function.required) for name, function in functions.items()}
        for version, functions in CONTRACT.exports.items()
    }
    assert exports == {
        1: {"realm_new": (0, True), "generate": (4, True), "realm_alloc": (1, False)},
        2: {"generate": (1, True), "realm_alloc": (1, True)},
    }


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_generated_files_are_those_of_the_contract(path: Any) -> None:
    assert path.read_text("utf-8") == GENERATED[path](CONTRACT)


def test_codes() -> None:
    assert [code.code for code in CONTRACT.errors] == list(range(-1, -15, -1))
    assert {code.name: code.code for code in CONTRACT.errors} == {code.name: code.value for code in ErrorCode}
    assert {code.name: code.code for code in CONTRACT.finish_reasons} == {
        code.name: code.value for code in FinishReason
    }


def test_every_window_has_a_capacity_or_a_size_that_follows() -> None:
    for function in CONTRACT.imports.values():
        for param in function.params:
            if param.kind == "out":
                assert len(param.raw) == 2 or param.count, f"{function.name}.{param.name}"


def test_sentences_are_there() -> None:
    documented: list[Any] = [*CONTRACT.errors, *CONTRACT.finish_reasons, *CONTRACT.imports.values()]
    documented += [function for functions in CONTRACT.exports.values() for function in functions.values()]
    for struct_ in CONTRACT.structs.values():
        documented += [struct_, *struct_.fields]
    assert [item.name for item in documented if not item.doc.endswith(".")] == []


@pytest.mark.parametrize("function", CONTRACT.imports.values(), ids=lambda function: function.name)
def test_the_host_protocols_have_every_import(function: Any) -> None:
    protocol = hostapi.HostV2 if function.version == 2 else hostapi.HostV1Whole
    method = getattr(protocol, function.name)
    parameters = list(inspect.signature(method).parameters)[1:]
    assert parameters == [param.name for param in function.params]


def test_gen_options_are_realms() -> None:
    options = CONTRACT.structs["GenOptions"]
    packed = options.pack(max_tokens=7, temperature=0.5, stop_token_count=2, stop_tokens_ptr=64, seed=9)
    assert packed == struct.pack("<IffIfIBxxxI", 7, 0.5, 0.9, 40, 1.1, 9, 2, 64)
    assert options.size == len(packed) == 32
    defaults = options.defaults()
    assert [defaults[name] for name in ("max_tokens", "temperature", "top_p", "top_k")] == [512, 0.7, 0.9, 40]


@given(st.data())
def test_structs_round_trip(data: st.DataObject) -> None:
    for struct_ in CONTRACT.structs.values():
        values = {
            field.name: data.draw(
                st.floats(width=32, allow_nan=False)
                if field.type == "f32"
                else st.integers(0, 256 ** element_size(field.type) - 1)
            )
            for field in struct_.fields
        }
        assert struct_.unpack(struct_.pack(**values)) == values


def test_pack_refuses_what_does_not_fit() -> None:
    options = CONTRACT.structs["GenOptions"]
    for wrong in ({"max_tokens": -1}, {"stop_token_count": 256}, {"max_token": 1}, {"temperature": 1e39}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            options.pack(**wrong)


@pytest.mark.parametrize(
    ("place", "replacement", "message"),
    [
        ("code = -2,", "code = -1,", "stands for two"),
        ('kind = "zero", doc', 'kind = "nil", doc', "unknown result nil"),
        ('kind = "flags"', 'kind = "flag"', "unknown kind flag"),
        ('element = "u64"', 'element = "u128"', "unknown element u128"),
        ('struct = "GenOptions"', 'struct = "Options"', "unknown struct Options"),
        ('not_found = "The host', 'lost = "The host', "unknown error lost"),
        ("offset = 28", "offset = 27", "where C does not put it"),
        ("size = 24", "size = 20", "does not take 20 bytes"),
        ('"session", "ids_ptr", "n_ids", "logits_ptr", ', '"session", ', "name different things"),
        ('name = "realm_draft"', 'name = "realm_emit"', "realm_emit is there twice"),
        ('raw = ["ids_ptr", "n_ids"] }', 'raw = ["ids_ptr"] }', "1 raw parameters instead of 2"),
        ('kind = "handle", of', 'kind = "handle", off', "off"),
        ('doc = "2" }', 'doc = "2" }\nerrors = ["internal"]', "errors is a table of codes"),
        ('"An id is >= vocab_size."', '"An id is too large"', "is no sentence"),
        ("blocks = true", "waits = true", "unknown key waits"),
        ('at_most = ["ids"], raw', 'at_most = ["tokens"], raw', "depends on the unknown tokens"),
        ('count = ["ids", "hidden_size"]', 'count = ["out"]', "from a parameter that comes later"),
        ('of = "session"', 'of = "sessions"', "a handle of the unknown sessions"),
        ('bits = ["skip_special"], ', "", "flags have bits"),
        ("[contract]", "[contracts]", "lacks 'contract'"),
        ("[contract]", "[contract", "not TOML"),
    ],
)
def test_contradictions_are_found(place: str, replacement: str, message: str) -> None:
    assert place in TEXT
    with pytest.raises(ContractError, match=re.escape(message)):
        parse_contract(TEXT.replace(place, replacement, 1))
