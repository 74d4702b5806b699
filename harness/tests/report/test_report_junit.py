"""JUnit: parsed back, with counts that agree and the order of children that CI systems' schemas ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from realm_harness.report import Run
from realm_harness.report.junit import junit_xml

OUTCOMES = ("failure", "error", "skipped")
ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
    "testcase": {"classname", "name", "time"},
}


def _parsed(run: Run) -> ET.Element:
    root = ET.fromstring(junit_xml(run))
    for element in root.iter():
        assert set(element.keys()) == ATTRIBUTES.get(element.tag, set(element.keys()))
    for case in root.iter("testcase"):
        children = [child.tag for child in case]
        assert children == sorted(children, key=[*OUTCOMES, "system-out"].index)
        assert sum(tag in OUTCOMES for tag in children) <= 1
    for suite in [*root, root]:
        assert int(suite.get("tests", "")) == len(list(suite.iter("testcase")))
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(name, "")) == len(list(suite.iter(tag)))
    return root


def _case(root: ET.Element, name: str) -> ET.Element:
    [case] = [case for case in root.iter("testcase") if case.get("name", "").startswith(name)]
    return case


def test_every_case_and_gate_is_there(make_run: Callable[..., Run]) -> None:
    root = _parsed(make_run())
    assert root.get("tests") == "9"
    assert [suite.get("name") for suite in root] == [
        "conformance.streaming",
        "conformance.errors",
        "conformance.parameters",
        "load",
    ]
    failure = _case(root, "CHAT-STREAM-008")[0]
    assert failure.tag == "failure"
    assert failure.get("message") == "no [DONE] was sent"
    assert "curl -N" in (failure.text or "")
    assert _case(root, "CHAT-PARAM-004")[0].tag == "skipped"
    assert [child.tag for child in _case(root, "CHAT-ERROR-005")] == ["system-out"]
    assert list(_case(root, "LOAD-ERRORS")) == []


def test_shoulds_fail_only_when_asked_to(make_run: Callable[..., Run]) -> None:
    assert _parsed(make_run()).get("failures") == "1"
    strict = _parsed(make_run(strict_should=True))
    assert strict.get("failures") == "2"
    assert _case(strict, "CHAT-ERROR-005")[0].tag == "failure"


def test_load_errors_fail_their_gate(make_run: Callable[..., Run], load_json: dict[str, Any]) -> None:
    load_json["figures"] |= {"failed": 3, "errors": {"http_500": 3}}
    failure = _case(_parsed(make_run(load=load_json)), "LOAD-ERRORS")[0]
    assert failure.tag == "failure"
    assert "http_500 x3" in failure.get("message", "")


@pytest.mark.parametrize("missing", ["conformance", "load"])
def test_what_is_missing_is_an_error(make_run: Callable[..., Run], missing: str) -> None:
    root = _parsed(make_run(**{missing: None}))
    [error] = list(root.iter("error"))
    assert "no" in error.get("message", "")


def test_a_dead_server_is_a_failure(make_run: Callable[..., Run]) -> None:
    root = _parsed(make_run(target_died="The server ended by SIGSEGV", log_tail=("last words",)))
    assert "last words" in (_case(root, "the server stays up")[0].text or "")


def test_control_characters_do_not_break_the_xml(
    make_run: Callable[..., Run], conformance_json: dict[str, Any]
) -> None:
    from realm_harness.report.text import clean_tree

    conformance_json["cases"][1] |= {
        "message": "\x00\x1b[31m]]>\ud800\ufffe <&\u202e",
        "title": "\x08<title>",
    }
    root = _parsed(make_run(conformance=clean_tree(conformance_json)))
    message = _case(root, "CHAT-STREAM-008")[0].get("message", "")
    assert message.startswith("\\x00\\x1b[31m]]>\\ud800\\ufffe <&\\u202e")
