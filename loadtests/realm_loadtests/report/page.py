"""The report of a load test, and of a search for the knee, as one HTML file.

No network, no external file, no script: a policy in the page allows none. What the server under test chose
(its model's name) is escaped by Jinja, and made visible where it would act.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from realm_loadtests.report.checks import Check, headline, limitation
from realm_loadtests.report.course import course
from realm_loadtests.report.text import number, visible

_TEMPLATES: Final = Path(__file__).parent / "templates"
LATENCIES: Final = {
    "ttft_ms": "Time to first token",
    "itl_ms": "Between tokens (ITL)",
    "tpot_ms": "Per output token (TPOT)",
    "e2e_ms": "Whole answer",
    "queue_ms": "In the generator's queue",
    "first_event_ms": "First event of any kind",
}
COUNTS: Final = {
    "tokens_per_second": "Tokens a second, in all",
    "tokens_per_second_per_user": "Tokens a second of one user",
    "requests_per_second": "Requests a second",
    "goodput": "Goodput, requests a second",
    "requests": "Requests",
    "completed": "Completed",
    "failed": "Failed",
    "cut": "Cut by the end",
    "cancelled": "Cancelled on purpose",
    "slow": "Read slowly on purpose",
    "error_rate": "Error rate",
    "tokens": "Tokens",
    "prompt_tokens": "Prompt tokens",
}
BY_RATE: Final = {
    "ttft_p50_ms": "TTFT p50, ms",
    "ttft_p99_ms": "TTFT p99, ms",
    "itl_p99_ms": "ITL p99, ms",
    "tokens_per_second": "tokens/s",
}
_ALWAYS: Final = ("requests", "completed", "failed")
_CALIBRATED: Final = {"ttft_ms": "ttft", "itl_ms": "itl"}
PLOTS: Final = {
    "ttft_over_time": "Time to first token over the run",
    "itl_over_time": "Time between tokens over the run",
    "ttft_cdf": "Distribution of the time to first token",
    "itl_cdf": "Distribution of the time between tokens",
    "itl_histogram": "Histogram of the time between tokens",
    "e2e_cdf": "Distribution of the whole answer's time",
    "ttft_against_streams": "Time to first token against the streams that were open",
    "tokens_by_tenant": "What each tenant got",
    "server_over_time": "What the server said of itself",
    "holds_by_rate": "Whether the objectives hold, by rate",
    "ttft_by_rate": "Time to first token, by rate",
    "throughput_by_rate": "Tokens a second, by rate",
}


def render_page(result: Mapping[str, Any], found: Sequence[Check]) -> str:
    """The HTML of a load.json's document and the checks that it was held to."""
    outcome, words = headline(found)
    figures = result["figures"]
    return _template("load.html.j2").render(
        result=result,
        figures=figures,
        outcome=outcome,
        words=words,
        checks=found,
        course=course(result),
        load=_load(result),
        tiles=_tiles(result),
        latencies={name: title for name, title in LATENCIES.items() if figures.get(name, {}).get("count")},
        counts=_counts(figures),
        errors_ms=_errors_ms(result["calibration"]),
        limitation=limitation(result["generator"]),
        facts=_facts(result),
        titles=PLOTS,
        plots={name: _data_uri(svg) for name, svg in result["plots"].items()},
    )


def render_knee(knee: Mapping[str, Any], words: str, plots: Mapping[str, str]) -> str:
    """The HTML of a knee.json's document; `words` say what was found."""
    return _template("knee.html.j2").render(
        knee=knee,
        words=words,
        columns=BY_RATE,
        titles=PLOTS,
        plots={name: _data_uri(svg) for name, svg in plots.items()},
    )


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters["number"] = number
    environment.globals.update(
        tool=f"realm-harness {version('realm-harness')}",
        css=Markup((_TEMPLATES / "load.css").read_text(encoding="utf-8")),
        marks={"held": "✓", "broken": "✕", "unproven": "?"},
    )
    return environment.get_template(name)


def _load(result: Mapping[str, Any]) -> str:
    settings = result["settings"]
    users = f"arrivals {settings['arrivals']}" if settings["arrivals"] else f"{settings['users']} users"
    return f"{users} for {result['figures']['window_s']:.1f} s, scenario {settings['scenario']}"


def _errors_ms(calibrated: Mapping[str, Any] | None) -> dict[str, dict[str, float]]:
    """Name of a latency -> the instrument's error at its quantiles, as it was calibrated."""
    return {name: calibrated[key] for name, key in _CALIBRATED.items()} if calibrated else {}


def _tiles(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Label, value and note of the figures at the head."""
    figures, errors = result["figures"], _errors_ms(result["calibration"])
    tiles = []
    for label, name in (("TTFT", "ttft_ms"), ("ITL", "itl_ms")):
        p50, p99 = (
            number(figures[name][rank]) + (f" ± {number(errors[name][rank])}" if name in errors else "")
            for rank in ("p50", "p99")
        )
        tiles.append((f"{label} p50, ms", p50, f"p99 {p99}"))
    per_user = number(figures["tokens_per_second_per_user"])
    tiles.append(("Tokens a second", number(figures["tokens_per_second"]), f"one user {per_user}"))
    tiles.append(("Failed", f"{figures['failed']:,}", f"of {figures['requests']:,} requests"))
    stalls = figures["stalls"]
    tiles.append(
        ("Stalls", f"{stalls['count']:,}", f"in {stalls['streams']:,} of {stalls['of_streams']:,} streams")
    )
    return tiles


def _counts(figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, title and text of each rate and count; the lesser ones are left out where they are nothing."""
    found = []
    for name, title in COUNTS.items():
        value = figures.get(name)
        text = f"{value:,}" if isinstance(value, int) else number(value)
        if name == "error_rate" and value:
            text = f"{value:.2%}"
        if value or name in _ALWAYS:
            found.append((name, title, text))
    return found


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    machine, settings = result["machine"], result["settings"]
    facts = {
        "Target": result["target"]["url"],
        "Model": result["target"]["model"],
        "Server header": result["target"]["server_header"] or "none",
        "Started": result["started"],
        "Generator ran on": f"{machine['platform']}, {machine['cpus']} CPUs, Python {machine['python']}",
        "Versions": ", ".join(f"{name} {number}" for name, number in result["versions"].items()),
    }
    return facts | {name.replace("_", " ").capitalize(): _shown(value) for name, value in settings.items()}


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _data_uri(svg: str) -> str:
    """An image: a browser runs no script in it and loads nothing for it."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
