"""A run's reports on disk: the page beside load.json, and what a pipeline asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from realm_loadtests.report.checks import checks
from realm_loadtests.report.junit import junit_xml
from realm_loadtests.report.markdown import markdown
from realm_loadtests.report.page import render_page

PAGE_FILE = "report.html"


def write_reports(
    result: Mapping[str, Any],
    folder: Path,
    allowed_errors: float,
    *,
    junit: Path | None,
    summary: Path | None,
) -> None:
    """Write the page of a load.json's document into the run's folder, JUnit XML to `junit`, and append
    Markdown to `summary`, where these are given. Raises OSError.
    """
    found = checks(result, allowed_errors)
    (folder / PAGE_FILE).write_text(render_page(result, found), encoding="utf-8")
    if junit is not None:
        junit.write_bytes(junit_xml(result, found))
    if summary is not None:
        with summary.open("a", encoding="utf-8") as file:
            file.write(markdown(result, found))
