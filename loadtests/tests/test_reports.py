"""What a run leaves for people and pipelines: the page, JUnit XML, the summary of a step, the schema."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from realm_loadtests.report.checks import checks, headline
from realm_loadtests.report.files import write_reports
from realm_loadtests.report.markdown import markdown
from realm_loadtests.report.page import render_page
from realm_loadtests.report.summary import summarise

SLO = ("--slo", "ttft_p99<300ms,itl_p99<1ms")
HOSTILE = "tiny-\u202e<img src=x onerror=1>\x1b[2J|`$(x)`"


@pytest.fixture(scope="module")
def folder(reported: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with all its reports; three of its requests failed, one objective was missed."""
    step = tmp_path_factory.mktemp("step") / "step.md"
    step.write_text("# an earlier step\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_STEP_SUMMARY", str(step))
        folder = reported(*SLO, "--junit", str(step.with_name("junit.xml")), failures=3)
    step.rename(folder / "step.md")
    step.with_name("junit.xml").rename(folder / "junit.xml")
    return folder


@pytest.fixture
def result(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "load.json").read_text())
    return document


def test_each_objective_and_each_class_of_failures_is_a_case(folder: Path) -> None:
    root = ET.fromstring((folder / "junit.xml").read_text())
    seen = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert seen == {
        "requests are completed": ["system-out"],
        "failures: http_503": ["failure"],
        "SLO ttft_p99<300ms": ["system-out"],
        "SLO itl_p99<1ms": ["failure"],
    }
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "2", "0")


def test_failures_that_are_allowed_fail_no_case(result: dict[str, Any]) -> None:
    result["slo"] = []
    assert headline(checks(result, 0.01)) == ("broken", "Requests failed")
    assert headline(checks(result, 0.03)) == ("held", "Measured: no objective was set")


def test_the_summary_of_a_step_is_appended_to(folder: Path) -> None:
    text = (folder / "step.md").read_text()
    assert text.startswith("# an earlier step\n## ❌ realm load: Requests failed\n")
    assert "| ✅ | SLO ttft\\_p99\\<300ms | seen: " in text
    assert "| time to first token |" in text


def test_what_cannot_be_written_is_told(folder: Path, result: dict[str, Any]) -> None:
    with pytest.raises(OSError, match="nowhere"):
        write_reports(result, folder, 0.0, junit=folder / "nowhere" / "junit.xml", summary=None)


def test_a_generator_that_was_the_bottleneck_proves_nothing(result: dict[str, Any]) -> None:
    result["figures"]["errors"] = {}
    result["generator"]["may_be_the_bottleneck"] = True
    found = checks(result, 0.0)
    assert {check.outcome for check in found if "SLO" in check.name} == {"unproven"}
    assert headline(found) == ("unproven", "Client-limited: the figures prove nothing of the server")
    result["slo"], result["arrivals"] = [], None
    assert headline(checks(result, 0.0)) == ("held", "Measured: no objective was set")


def test_what_a_server_calls_itself_acts_nowhere(result: dict[str, Any]) -> None:
    result["target"]["model"] = result["target"]["server_header"] = HOSTILE
    found = checks(result, 0.0)
    page, step, terminal = render_page(result, found), markdown(result, found), summarise(result)
    for text in (page, step, terminal):
        assert not set(text) & {"\x1b", "\u202e"}
    assert "<img src=x" not in page
    assert "<script" not in page
    assert re.search(r"(?<!\\)[<|`]img|(?<!\\)\|`", step) is None


def test_every_figure_of_the_page_stands_beside_its_definition(result: dict[str, Any]) -> None:
    page = render_page(result, checks(result, 0.0))
    for name in ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms", "tokens_per_second", "completed", "stalls"):
        start = result["definitions"][name][:30].replace("'", "&#39;")
        assert page.count(start) >= 2, name  # beside the figure, and in the list of all
    assert page.count("<figure>") == len(result["plots"]) > 5


def test_the_instruments_error_stands_beside_the_latency(result: dict[str, Any]) -> None:
    ranks = {"p50": 0.125, "p99": 1.375}
    result["calibration"] = {"streams": 64, "ttft": ranks, "itl": ranks, "trusted": True}
    page = render_page(result, checks(result, 0.0))
    assert page.count("± 0.12</i>") == page.count("± 1.38</i>") == 2
    assert "calibrated on this machine at 64 streams" in page


def test_the_terminal_tells_of_stalls_where_there_were_some(result: dict[str, Any]) -> None:
    result["figures"]["stalls"] |= {
        "count": 3,
        "share_of_streams": 0.125,
        "of_streams": 16,
        "over_ms": 20.0,
        "length_ms": {"p50": 205.0, "max": 1250.0},
    }
    [line] = [line for line in summarise(result).splitlines() if "stalls" in line]
    assert " ".join(line.split()) == (
        "stalls 3 in 12.5% of 16 streams: gaps over 20.0 ms, p50 205.0 ms, max 1250 ms"
    )
    result["figures"]["stalls"]["count"] = 0
    assert "stalls" not in summarise(result)


def test_the_terminal_tells_where_the_server_disagrees(result: dict[str, Any]) -> None:
    assert "The server's own figures" not in summarise(result)
    result["server"] = {"findings": ["it counted 9 requests,\x1b its clients sent 5"]}
    assert "  The server's own figures: it counted 9 requests,\\x1b its clients sent 5\n" in summarise(result)
