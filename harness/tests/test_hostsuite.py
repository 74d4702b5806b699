"""The host suite on the healthy MockHost, and its parts: scripts, reports, the oracle, refusals to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from realm_abi.contract import load_contract
from realm_abi.errors import ErrorCode
from realm_harness.case import Broken
from realm_harness.commands import conform
from realm_harness.conform import run_cases
from realm_harness.hostsuite.conform import host_cases, launcher_of, open_host
from realm_harness.hostsuite.host import HostUnavailable
from realm_harness.hostsuite.oracle import Known, refusal
from realm_harness.hostsuite.report import read_report
from realm_harness.hostsuite.script import Script
from realm_harness.hostsuite.subject import HostSubject, Settings

MOCK = "python:realm_mocks.host.probed:mock_host"
KNOWN = Known({"vocab_size": 100, "hidden_size": 8}, {"model": {1}, "session": {3, 4}})


@pytest.fixture(scope="module")
def mock() -> Iterator[HostSubject]:
    with open_host(launcher_of(MOCK), Settings(calls=20_000)) as subject:
        yield subject


def test_the_mock_host_keeps_the_contract(mock: HostSubject) -> None:
    run = run_cases(host_cases(), mock)
    told = {result.case.id: result.message for result in run.results if result.verdict != "ok"}
    assert not told
    assert run.as_json()["target"] == {"host": MOCK, "model": "scripted", "abi_versions": [1, 2]}


def test_case_ids_are_unique_and_every_import_has_cases() -> None:
    cases = host_cases()
    assert len({case.id for case in cases}) == len(cases) >= 150
    asked = {name for case in cases for name in case.imports}
    assert asked == {name for name, function in load_contract().imports.items() if function.params}


@pytest.mark.parametrize(
    ("function", "raw", "codes"),
    [
        ("realm_encode", (1, 0, 5, 0, 48, 4), set()),
        ("realm_encode", (1, 60, 5, 0, 64, 4), {"out_of_bounds"}),
        ("realm_encode", (1, 64, 0, 0, 64, 0), set()),
        ("realm_encode", (1, 0, 5, 0, 62, 1), {"out_of_bounds", "misaligned"}),
        ("realm_encode", (1, 0, 5, 4, 0, 4), {"invalid_argument"}),
        ("realm_encode", (2, 0, 5, 0, 0, 4), {"invalid_handle"}),
        ("realm_encode", (2, 0, 50, 4, 0, 4), {"invalid_argument"}),
        ("realm_embed_tokens", (2, 0, 50, 0), {"invalid_handle"}),
        ("realm_embed_tokens", (1, 0, 1, 32), set()),
        ("realm_embed_tokens", (1, 0, 2, 32), {"out_of_bounds"}),
        ("realm_session_free", (1 << 31,), {"invalid_handle"}),
        ("realm_forward", (3, 0, 1, 0, 1, 99), {"out_of_bounds"}),
        ("realm_forward", (3, 0, 1, 0, 2, 16), {"buffer_too_small", "invalid_argument"}),
        ("realm_host_generate", (1, 0, 5, 0, 0, 5), set()),
        ("realm_host_generate", (1, 0, 5, 34, 0, 5), {"out_of_bounds", "misaligned"}),
    ],
)
def test_the_oracle_says_what_the_contract_says(function: str, raw: tuple[int, ...], codes: set[str]) -> None:
    found = refusal(load_contract().imports[function], raw, 64, KNOWN)
    assert (found.codes if found else set()) == {ErrorCode[code] for code in codes}


def test_a_report_is_read_and_expressions_mean_what_the_probe_makes_of_them(mock: HostSubject) -> None:
    script = Script(payload="h\u00e9llo")
    size = script.do("text")
    grown = script.do("grow 2")
    asked = script.call("realm_model_info", "M", "E-24", 24, out=["E-24 *1"])
    product = script.call("realm_model_info", "M", f"A+R{size}*4", f"0-1-R{asked}")
    report = mock.run(2, script)
    assert report[size].result == 6
    assert report.memory(asked) == report.head[0] + (2 << 16)
    assert report[grown].result == report.head[0] >> 16
    assert report.arguments(product)[1:] == [(report.head[1] + 6) * 4, (1 << 32) - 25]
    assert report[product].result == ErrorCode.out_of_bounds
    assert report[asked].digests


def test_a_report_that_is_cut_is_the_hosts_fault(mock: HostSubject) -> None:
    script = Script()
    script.do("say 10")
    for text in ("", "[probe 1 2 3 4 5 0:1", "[probe 1 2 3 4 5  probe]"):
        with pytest.raises(Broken):
            read_report(script, text)


@pytest.mark.parametrize(
    ("host", "remedy"),
    [
        ("realm serve", "{module}"),
        ("false {module} {port}", "takes neither probe"),
        ("no-such-program {module} {port}", "check it"),
        ("true {module} {port} {what}", "check it"),
        ("python:no_such_module:host", "python:MODULE:FACTORY"),
        ("python:json:decoder", "no function"),
    ],
)
def test_a_host_that_cannot_be_tested_is_one_line_and_exit_code_2(host: str, remedy: str) -> None:
    result = CliRunner().invoke(conform, ["--host", host])
    assert result.exit_code == 2
    assert remedy in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_a_launcher_needs_both_places() -> None:
    with pytest.raises(HostUnavailable, match="port"):
        launcher_of("serve {module}")
