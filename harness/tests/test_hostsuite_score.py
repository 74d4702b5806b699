"""Every planted defect of a host is caught by the case that claims it, and the message says what was seen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from realm_harness.hostsuite.conform import host_cases, open_host
from realm_harness.hostsuite.local import LocalLauncher
from realm_harness.hostsuite.score import NoHosts, hosts_of, judged, run_against, score_hosts
from realm_harness.hostsuite.script import Script
from realm_harness.score import CAUGHT
from realm_harness.score_commands import score
from realm_mocks.host.defects import HostDefect, host_defects
from realm_mocks.host.probed import mock_host

DEFECTS = host_defects()


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS.keys())
def test_a_planted_defect_is_caught(defect: HostDefect) -> None:
    cases = host_cases([defect.claim])
    assert cases, f"no case matches {defect.claim}"
    assert any(result.verdict in CAUGHT for result in judged(defect, cases))


def test_there_are_defects_of_all_kinds() -> None:
    assert len(DEFECTS) >= 50
    sources = Counter(word for defect in DEFECTS.values() for word in defect.source.replace(",", " ").split())
    missing = [number for number in range(1, 20) if not sources[str(number)]]
    assert not missing, f"nothing is planted for {missing} of the list of defects"


def test_a_breach_says_which_call_with_what_and_what_is_right() -> None:
    case = host_cases(["HOST-ENCODE-PTR-001"])
    result = run_against(DEFECTS["bounds-are-arguments"].host, "a host", case)[0]
    assert result.message
    for part in (
        "realm_encode(model=42, text_ptr=",
        "memory of",
        "answered -1 (invalid_argument)",
        "out_of_bounds (-2)",
    ):
        assert part in result.message


def test_the_probe_sees_each_byte_that_a_host_changes() -> None:
    defect = DEFECTS["writes-past-the-window"]
    result = run_against(mock_host, "healthy", host_cases(["HOST-MODEL-INFO-PTR-001"]))[0]
    assert result.verdict == "ok"
    with open_host(LocalLauncher("healthy", mock_host)) as healthy:
        healthy.launcher = LocalLauncher(defect.id, defect.host)
        healthy.close()
        script = Script()
        call = script.call("realm_model_info", "M", "A", 24, out=["A *1"])
        change = healthy.run(2, script)[call].change
        assert change
        assert (change.count, change.last - change.first) == (4, 3)


@pytest.mark.timeout(120)
def test_a_score_names_what_is_idle() -> None:
    globs = ["HOST-MODEL-INFO-*", "HOST-ENCODE-*"]
    made = score_hosts(globs, ["misaligned-is-taken"])
    busy = {"HOST-MODEL-INFO-PTR-001", "HOST-ENCODE-PTR-002", "HOST-ENCODE-TOKENS-PTR-002"}
    assert set(made.idle) == {case.id for case in host_cases(globs)} - busy
    assert not made.healthy_failures
    assert made.good


@pytest.mark.parametrize(("text", "remedy"), [(None, "no Python file"), ("HOSTS = 1\n", "no table HOSTS")])
def test_a_file_without_hosts_is_one_line(tmp_path: Path, text: str | None, remedy: str) -> None:
    file = tmp_path / "hosts.py"
    if text:
        file.write_text(text)
    with pytest.raises(NoHosts, match=remedy):
        hosts_of(file)
    done = CliRunner().invoke(score, ["--host", "--hosts", str(file)])  # before the MockHosts are scored
    assert (done.exit_code, len(done.output.strip().splitlines())) == (2, 1)


def test_all_suites_take_no_cases_of_one() -> None:
    done = CliRunner().invoke(score, ["--all", "--case", "CHAT-*"])
    assert done.exit_code == 2
    assert "of one suite" in done.output
