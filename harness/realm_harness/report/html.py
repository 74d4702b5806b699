"""The report as one HTML file: no network, no external file, readable without JavaScript.

Everything that the server under test chose is hostile until shown otherwise. Jinja escapes every value;
plots are embedded as images, where a browser runs no script and loads nothing; and a content security policy
in the page allows no connection, and no script but the one whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import jinja2
from markupsafe import Markup

from realm_harness.report import figures
from realm_harness.report.model import CASE_VERDICTS, CaseVerdict, Conformance, Level, Load, Run
from realm_harness.report.text import clip
from realm_harness.report.verdict import broken_cases, judge, load_gates, missing_parts
from realm_harness.report.wire import wire_views

_TEMPLATES = Path(__file__).parent / "templates"
MAX_PLOT_BYTES = 1_500_000
MAX_PLOTS = 12
_MAX_TEXT = 4_000
# The figures of the report's second load table.
_RATES = ("tokens_per_second", "tokens_per_second_per_user", "requests", "completed", "failed", "cut")


@dataclass(frozen=True)
class Tile:
    """One figure of the headline: a label, the value, and what it is measured in or out of."""

    label: str
    value: str
    note: str
    tone: Literal["", "weak", "bad"] = ""


def render_html(run: Run) -> str:
    """The report's HTML. Its size is bounded: long texts, wire logs and plots are cut, and say so."""
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    plots, plot_notes = _plots(run.load)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            verdict=judge(run),
            conformance=run.conformance,
            load=run.load,
            tiles=_tiles(run),
            facts=_facts(run),
            broken=broken_cases(run),
            wires=wire_views(run.conformance.cases) if run.conformance else {},
            gates=load_gates(run.load) if run.load else (),
            missing=missing_parts(run),
            other_definitions=_other_definitions(run.load),
            plots=plots,
            plot_notes=plot_notes,
            verdicts=CASE_VERDICTS,
            names=figures.VERDICT_NAMES,
            meanings=figures.VERDICT_MEANINGS,
            marks={"ok": "✓", "failed": "✕", "non_strict": "!", "unimplemented": "–", "informational": "i"},
            tool=f"realm-harness {version('realm-harness')}",
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ms=figures.milliseconds,
        rate=figures.rate,
        duration=figures.duration,
        clip=lambda text: clip(text, _MAX_TEXT),
        latency_name=figures.latency_name,
        plot_name=figures.plot_name,
        chapter_name=figures.chapter_name,
        held=figures.held,
    )
    return environment


def _tiles(run: Run) -> list[Tile]:
    tiles = []
    if run.conformance:
        tiles.append(_held(run.conformance, "MUST", "failed", "bad"))
        tiles.append(_held(run.conformance, "SHOULD", "non_strict", "weak"))
    if run.load:
        load = run.load
        for label, name in (("TTFT", "ttft_ms"), ("ITL", "itl_ms")):
            p50, p99 = figures.latency_pair(load, name)
            tiles.append(Tile(f"{label} p50", p50, f"p99 {p99}"))
        per_user = figures.rate(load.tokens_per_second_per_user)
        tiles.append(
            Tile("Throughput", f"{figures.rate(load.tokens_per_second)} tok/s", f"{per_user} per user")
        )
        tiles.append(
            Tile(
                "Failed requests",
                f"{load.failed:,}",
                f"of {load.requests:,}",
                tone="bad" if load.failed else "",
            )
        )
    return tiles


def _held(conformance: Conformance, level: Level, broken: CaseVerdict, tone: Literal["weak", "bad"]) -> Tile:
    held = conformance.count("ok", level)
    total = held + conformance.count(broken, level)
    return Tile(f"{level} cases", f"{held}/{total}", "passed", tone if held < total else "")


def _facts(run: Run) -> dict[str, str]:
    """What was tested, where, when and with what, as label -> text; empty ones are left out."""
    target = run.conformance.target if run.conformance else {}
    ours = "the reference server, started by this run on this machine"
    facts = {
        "Target": run.subject.url,
        "Kind": ours if run.subject.kind == "reference" else "a server that was already running",
        "Model": run.subject.model or target.get("model", ""),
        "Precision": target.get("precision", ""),
        "Server header": target.get("server_header", ""),
        "Started": run.started.replace("T", " ")[:19] + " UTC",
        "Took": figures.duration(run.seconds),
        "Harness ran on": _machine(run.machine),
        "Harness": f"realm-harness {version('realm-harness')}",
        "Conformance seed": run.conformance.seed if run.conformance else "",
    }
    if run.load:
        facts["Load tool"] = run.load.tool
        facts["Load versions"] = _joined(run.load.versions)
        facts["Load seed"] = run.load.settings.get("seed", "")
    return {label: text for label, text in facts.items() if text}


def _machine(machine: Mapping[str, str]) -> str:
    forms = {"platform": "{}", "cpus": "{} CPUs", "python": "Python {}"}
    return ", ".join(forms.get(name, name + " {}").format(text) for name, text in machine.items())


def _joined(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in labels.items())


def _other_definitions(load: Load | None) -> dict[str, str]:
    """The definitions that do not stand beside a figure in the tables."""
    if load is None:
        return {}
    shown = {*load.latencies, *_RATES}
    return {name: text for name, text in load.definitions.items() if name not in shown}


def _plots(load: Load | None) -> tuple[dict[str, str], list[str]]:
    """The plots as data URIs, and notes on those that were left out."""
    plots: dict[str, str] = {}
    notes = []
    for name, svg in load.plots.items() if load else ():
        data = svg.encode()
        if len(data) > MAX_PLOT_BYTES:
            notes.append(f"The plot {name} has {len(data):,} bytes and was left out; it is in report.json.")
        elif len(plots) == MAX_PLOTS:
            notes.append(f"The plot {name} was left out: {MAX_PLOTS} are shown; it is in report.json.")
        else:
            plots[name] = "data:image/svg+xml;base64," + base64.b64encode(data).decode()
    return plots, notes
