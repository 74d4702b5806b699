"""The reference page says all, and what it shows is right: its guests run on MockHost and break no rule."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from click.testing import CliRunner
from realm_abi.contract import load_contract
from realm_abi.describe import named_lines, wat_import
from realm_abi.errors import ErrorCode, FinishReason
from realm_abi.page import example, reference_page
from realm_harness.commands import conform
from realm_mocks.host import RULES, Fault, Hashed, MockHost, Return, Run, Stop

CONTRACT = load_contract()
PAGE = reference_page(CONTRACT)
DOCS = {code.name: code.doc for code in (*CONTRACT.errors, *CONTRACT.finish_reasons)}
DOCS |= {rule.name: rule.doc for rule in CONTRACT.rules}
VERSIONS = CONTRACT.versions
# Characters in one token and in several, bytes that never become one, and one that is cut off at the end.
SCRIPT = ["hello ", b"\xf0\x9f", b"\xa6\x80", b"\x80", "é", b"\xe6\x97", "b", b"\xed", b"\xa0", b"\xf0"]
TEXT = "hello 🦀\N{REPLACEMENT CHARACTER}é\N{REPLACEMENT CHARACTER}b" + "\N{REPLACEMENT CHARACTER}" * 3
ERRORS = [ErrorCode.out_of_memory, ErrorCode.cancelled, ErrorCode.limit_exceeded, ErrorCode.internal]


ASKED: list[dict[str, Any]] = [
    {"temperature": 0.5},
    {"repetition_penalty": 1.5},
]
FLAGS: list[dict[str, Any]] = [
    {"plain_text": True},
    {"add_bos": False},
    {"ignore_eos": True},
    {"prefill_chunk": 3},
]
LENGTHS = (1, 3000, 30)


def mock(version: int, script: Any = SCRIPT, **settings: Any) -> MockHost:
    return MockHost(example(version), script, canaries="memory", **settings)


def test_everything_of_the_contract_is_on_the_page() -> None:
    exports = [function for functions in CONTRACT.exports.values() for function in functions.values()]
    for function in (*CONTRACT.imports.values(), *exports):
        sentences = [
            function.doc,
            function.result_doc,
            function.owns,
            function.unchanged,
            *function.conditions,
        ]
        assert [sentence for sentence in sentences if sentence not in PAGE] == []
    for function in CONTRACT.imports.values():
        assert PAGE.count(wat_import(CONTRACT, function)) == 2  # in the list, and with its text
    for struct in CONTRACT.structs.values():
        for field in struct.fields:
            assert f"| {field.offset} | {field.name} | {field.type} |" in PAGE
    for sentence in DOCS.values():
        assert sentence in PAGE


def test_every_rule_of_the_mocks_has_its_mistakes_on_the_page() -> None:
    assert set(re.findall(r"\| `\[([\w-]+)\]` \|", PAGE)) == RULES.keys()


def test_no_line_of_the_page_is_unfinished() -> None:
    assert [line for line in PAGE.splitlines() if "{{" in line or "{%" in line] == []
    assert PAGE.endswith("\n")


def test_whatever_has_a_name_can_be_shown() -> None:
    names = [*CONTRACT.imports, *CONTRACT.structs, "generate", "realm_alloc", "-5"]
    names += DOCS
    for name in names:
        assert len("\n".join(named_lines(CONTRACT, name))) > len(name) + 20
    assert sum(line.startswith("# generate") for line in named_lines(CONTRACT, "generate")) == len(VERSIONS)
    assert any("realm_forward" in line for line in named_lines(CONTRACT, "context_full"))
    with pytest.raises(KeyError):
        named_lines(CONTRACT, "realm_forwards")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_guest_says_what_the_tokens_say(version: int) -> None:
    host = mock(version)
    whole = host.generate("a prompt of more tokens than one chunk has, é日本").check()
    assert whole.text == TEXT
    for limit in range(len(whole.tokens) + 1):
        short = host.generate("a prompt", max_tokens=limit).check()
        assert short.tokens == whole.tokens[:limit]
        assert TEXT.startswith(short.text.removesuffix("\N{REPLACEMENT CHARACTER}"))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_guest_passes_the_whole_guest_suite(version: int, tmp_path: Path) -> None:
    module, results = tmp_path / "guest.wasm", tmp_path / "results.json"
    module.write_bytes(bytes(wasmtime.wat2wasm(example(version))))
    done = CliRunner().invoke(conform, ["--guest", str(module), "--level", "should", "--json", str(results)])
    assert done.exit_code == 0, done.output
    summary = json.loads(results.read_text("utf-8"))["summary"]
    assert (summary["failed"], summary["non_strict"]) == (0, 0)
    assert summary["ok"] > summary["unimplemented"] > 0, "it declines what it has no code for, no more"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_guest_takes_one_request_after_another(version: int) -> None:
    host = mock(version, script=Hashed(5))
    alone = [host.generate("p" * length, max_tokens=9).check().tokens for length in LENGTHS]
    with host.instance() as instance:
        for _ in range(3):
            runs = [instance.generate("p" * length, max_tokens=9).check() for length in LENGTHS]
            assert [run.tokens for run in runs] == alone
        assert runs[-1].memory_bytes < 4 << 20, "memory is free again after each"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_guest_ends_with_the_context(version: int) -> None:
    run = mock(version, script=Hashed(3), context_length=40).generate("hello" * 5, max_tokens=100).check()
    assert len(run.tokens) == 40 - 6 + 1
    assert run.reason in (None, FinishReason.max_tokens)
    full = mock(version, context_length=5).generate("hello" * 5)
    assert (full.error, full.findings) == ({1: ErrorCode.internal, 2: ErrorCode.context_full}[version], ())


def imports_called(run: Run) -> list[str]:
    return sorted(set(run.trace.names))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_of_any_call_ends_the_guest(version: int) -> None:
    run = mock(version).generate("a prompt").check()
    for name in imports_called(run):
        for nth in {1, 2, len(run.calls(name))} & set(range(1, len(run.calls(name)) + 1)):
            for code in ERRORS:
                fault = Fault(Return(code), name, nth)
                mock(version, faults=[fault]).generate("a prompt").check(error=code)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_guest_stops_when_it_is_asked_to(version: int) -> None:
    name = {1: "realm_stream_token", 2: "realm_emit"}[version]
    run = mock(version, faults=[Fault(Stop(), name, 2)]).generate("a prompt").check()
    assert len(run.calls(name)) == 2
    assert run.reason in (None, FinishReason.stopped)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_the_guest_declines_what_it_has_no_code_for(version: int, asked: dict[str, Any]) -> None:
    run = mock(version).generate("a prompt", **asked)
    assert run.error == {1: ErrorCode.internal, 2: ErrorCode.unsupported}[version]
    assert (run.findings, run.text) == ((), "")


@pytest.mark.parametrize(
    "asked", [{"temperature": math.nan}, {"stop_strings": ["", "x"]}, {"min_p": 2.0}], ids=str
)
def test_the_guest_of_v2_says_what_is_wrong_first(asked: dict[str, Any]) -> None:
    assert mock(2).generate("a prompt", **asked).error is ErrorCode.invalid_argument


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_the_guest_of_v2_obeys_the_flags(flags: dict[str, Any]) -> None:
    run = mock(2).generate("a <|end|> prompt", max_tokens=14, **flags).check()
    endless = "ignore_eos" in flags
    assert run.reason is (FinishReason.max_tokens if endless else FinishReason.stop_token)
    assert len(run.tokens) == (14 if endless else len(SCRIPT) + 1)  # "hello " is two
    fed = [len(call.ids or ()) for call in run.calls("realm_forward")]
    assert max(fed) == (3 if "prefill_chunk" in flags else fed[0])


@pytest.mark.parametrize("asked", [{"want_logprobs": True}, {"stop_strings": ["x"]}], ids=str)
def test_the_guest_of_v2_declines_what_only_v2_can_ask(asked: dict[str, Any]) -> None:
    run = mock(2).generate("a prompt", **asked)
    assert (run.error, run.findings) == (ErrorCode.unsupported, ())
