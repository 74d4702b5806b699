"""The verdict, the summary and the JSON: what a person and a CI system conclude."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from realm_harness.report import HTML_NAME, JSON_NAME, JUNIT_NAME, Run, judge, summary, write_bundle


@pytest.fixture
def healthy(conformance_json: dict[str, Any]) -> dict[str, Any]:
    """The conformance file without its broken MUST."""
    conformance_json["cases"] = [case for case in conformance_json["cases"] if case["verdict"] != "failed"]
    return conformance_json


def test_a_healthy_run_passes(make_run: Callable[..., Run], healthy: dict[str, Any]) -> None:
    verdict = judge(make_run(conformance=healthy))
    assert (verdict.state, verdict.exit_code) == ("pass", 0)
    assert verdict.headline == "Conforms, also under load"


def test_a_broken_must_fails_and_is_counted(make_run: Callable[..., Run]) -> None:
    verdict = judge(make_run())
    assert verdict.exit_code == 1
    assert verdict.sentences[0].startswith(
        "6 conformance cases: 1 of 3 MUST cases failed; 1 SHOULD case failed"
    )


def test_a_broken_should_fails_only_a_strict_run(
    make_run: Callable[..., Run], healthy: dict[str, Any]
) -> None:
    assert judge(make_run(conformance=healthy)).exit_code == 0
    assert judge(make_run(conformance=healthy, strict_should=True)).exit_code == 1


@pytest.mark.parametrize(
    "figures",
    [
        {"failed": 1, "errors": {"timeout": 1}},
        {"completed": 0, "requests": 4},
        {"tokens_per_second": None},
    ],
)
def test_trouble_under_load_fails(
    make_run: Callable[..., Run], healthy: dict[str, Any], load_json: dict[str, Any], figures: dict[str, Any]
) -> None:
    load_json["figures"] |= figures
    verdict = judge(make_run(conformance=healthy, load=load_json))
    assert (verdict.exit_code, verdict.headline) == (1, "Conforms, but fails under load")


@pytest.mark.parametrize(
    "changes",
    [
        {"conformance": None},
        {"load": None},
        {"problems": ("the load test gave no results",)},
    ],
)
def test_a_missing_part_never_passes(
    make_run: Callable[..., Run], healthy: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert judge(make_run(**{"conformance": healthy, **changes})).exit_code == 2


def test_a_run_without_a_wanted_load_test_is_whole(
    make_run: Callable[..., Run], healthy: dict[str, Any]
) -> None:
    assert judge(make_run(conformance=healthy, load=None, load_wanted=False)).headline == "Conforms"


@pytest.mark.parametrize("kept", [[], ["unimplemented", "informational"]])
def test_no_passed_case_proves_nothing(
    make_run: Callable[..., Run], healthy: dict[str, Any], kept: list[str]
) -> None:
    healthy["cases"] = [case for case in healthy["cases"] if case["verdict"] in kept]
    assert judge(make_run(conformance=healthy)).exit_code == 2


def test_a_dead_server_fails_even_a_clean_run(make_run: Callable[..., Run], healthy: dict[str, Any]) -> None:
    verdict = judge(make_run(conformance=healthy, target_died="The server ended by SIGKILL"))
    assert (verdict.exit_code, verdict.headline) == (1, "The server died during the test")


def test_the_summary_names_each_broken_case_and_the_figures(make_run: Callable[..., Run]) -> None:
    lines = summary(make_run(), Path("prove/report.html")).splitlines()
    assert any(line.split()[:2] == ["FAILED", "CHAT-STREAM-008"] and "no [DONE]" in line for line in lines)
    assert any("2 ok, 1 failed, 1 non-strict, 1 not implemented, 1 informational" in line for line in lines)
    assert any("Time to first token" in line and "112 ms" in line and "245 ms" in line for line in lines)
    assert any("prove/report.html" in line for line in lines)
    assert "151 tokens/s" in "\n".join(lines)


def test_the_summary_obeys_no_server(make_run: Callable[..., Run], conformance_json: dict[str, Any]) -> None:
    conformance_json["cases"][1]["message"] = "\x1b[2Jgone\nFAILED CHAT-FAKE-001"
    text = summary(make_run(conformance=conformance_json), Path("report.html"))
    assert "\x1b" not in text
    assert not any(line.strip().startswith("FAILED CHAT-FAKE") for line in text.splitlines())


def test_the_bundle_is_three_files_that_agree(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    run = make_run()
    report = write_bundle(run, tmp_path / "out")
    assert report == tmp_path / "out" / HTML_NAME
    assert {path.name for path in report.parent.iterdir()} == {HTML_NAME, JSON_NAME, JUNIT_NAME}
    document = json.loads((report.parent / JSON_NAME).read_bytes())
    assert document["schema"] == "realm-prove/1"
    assert document["verdict"]["exit_code"] == 1
    assert document["conformance"]["cases"][1]["id"] == "CHAT-STREAM-008"
    assert document["load"]["figures"]["ttft_ms"]["hdr"] == "HIST"


def test_what_the_run_adds_is_clean_too(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    run = make_run(problems=("the key sk-secret-1 is wrong\x1b[0m \ud800",), log_tail=("Bearer sk-secret-1",))
    out = write_bundle(run, tmp_path, secret="sk-secret-1").parent
    for path in out.iterdir():
        content = path.read_text(encoding="utf-8")
        assert "sk-secret-1" not in content
        assert "\x1b" not in content
