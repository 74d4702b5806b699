"""Reports: from result files to one verdict, as HTML, JSON, JUnit and a summary for the terminal."""

from realm_harness.report.bundle import HTML_NAME, JSON_NAME, JUNIT_NAME, write_bundle
from realm_harness.report.model import Conformance, Load, Run, Subject
from realm_harness.report.read import (
    CONFORMANCE_SCHEMA,
    LOAD_SCHEMA,
    BrokenResults,
    conformance_of,
    load_of,
    read_json,
)
from realm_harness.report.summary import summary
from realm_harness.report.verdict import Verdict, judge

__all__ = [
    "CONFORMANCE_SCHEMA",
    "HTML_NAME",
    "JSON_NAME",
    "JUNIT_NAME",
    "LOAD_SCHEMA",
    "BrokenResults",
    "Conformance",
    "Load",
    "Run",
    "Subject",
    "Verdict",
    "conformance_of",
    "judge",
    "load_of",
    "read_json",
    "summary",
    "write_bundle",
]
