"""The run on disk: report.html, report.json and junit.xml in one folder."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from realm_harness.report.html import render_html
from realm_harness.report.junit import junit_xml
from realm_harness.report.model import Run
from realm_harness.report.text import clean_tree
from realm_harness.report.verdict import judge, load_gates, missing_parts

SCHEMA = "realm-prove/1"
HTML_NAME = "report.html"
JSON_NAME = "report.json"
JUNIT_NAME = "junit.xml"


def report_json(run: Run) -> dict[str, Any]:
    """The run as `realm-prove/1`: the verdict, then both result files as read (null where there is none)."""
    verdict = judge(run)
    return {
        "schema": SCHEMA,
        "tool": {"name": "realm-harness", "version": version("realm-harness")},
        "started": run.started,
        "seconds": round(run.seconds, 3),
        "subject": asdict(run.subject),
        "machine": dict(run.machine),
        "verdict": {
            "state": verdict.state,
            "exit_code": verdict.exit_code,
            "headline": verdict.headline,
            "sentences": list(verdict.sentences),
        },
        "strict_should": run.strict_should,
        "problems": list(missing_parts(run)),
        "target_died": run.target_died,
        "load_gates": [asdict(gate) for gate in load_gates(run.load)] if run.load else [],
        "conformance": run.raw.get("conformance"),
        "load": run.raw.get("load"),
    }


def write_bundle(run: Run, folder: Path, secret: str | None = None) -> Path:
    """Write the three files into `folder` (made if need be) and return the path of the HTML report.

    The result files were cleaned when they were read; what this run added itself (problems, log lines) is
    cleaned here.
    """
    run = _cleaned(run, secret)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / JSON_NAME, json.dumps(report_json(run), indent=1, ensure_ascii=False).encode())
    _write(folder / JUNIT_NAME, junit_xml(run))
    _write(folder / HTML_NAME, render_html(run).encode())
    return folder / HTML_NAME


def _cleaned(run: Run, secret: str | None) -> Run:
    return replace(
        run,
        subject=replace(
            run.subject, **clean_tree({"url": run.subject.url, "model": run.subject.model}, secret)
        ),
        problems=tuple(clean_tree(list(run.problems), secret)),
        target_died=clean_tree(run.target_died, secret),
        log_tail=tuple(clean_tree(list(run.log_tail), secret)),
    )


def _write(path: Path, content: bytes) -> None:
    """Write in one move, so that a reader (or a second Ctrl-C) never finds half a report."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)
