"""JUnit XML of a run for CI: each objective a case, each class of failures a case, in one suite.

There is no one schema; this keeps to the attributes and elements on which Jenkins' and Surefire's agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from xml.etree import ElementTree as ET

from realm_loadtests.report.checks import Check
from realm_loadtests.report.text import visible

_ELEMENTS: Final = {"broken": "failure", "unproven": "error"}


def junit_xml(result: Mapping[str, Any], found: Sequence[Check]) -> bytes:
    """The checks of a load.json's document as a UTF-8 JUnit document."""
    counts = {
        "tests": len(found),
        "failures": sum(check.outcome == "broken" for check in found),
        "errors": sum(check.outcome == "unproven" for check in found),
        "skipped": 0,
    }
    totals = {name: str(count) for name, count in counts.items()} | {"time": f"{result['seconds']:.3f}"}
    root = ET.Element("testsuites", {"name": "realm load", **totals})
    target = visible(result["target"]["url"])
    suite = ET.SubElement(
        root, "testsuite", {"name": f"load {target}", "timestamp": result["started"][:19], **totals}
    )
    for check in found:
        case = ET.SubElement(suite, "testcase", classname="realm.load", name=visible(check.name), time="0")
        if element := _ELEMENTS.get(check.outcome):
            ET.SubElement(case, element, message=visible(check.message))
        else:
            ET.SubElement(case, "system-out").text = visible(check.message)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"
