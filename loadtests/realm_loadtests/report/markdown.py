"""A run in Markdown, for the summary of a GitHub step or a comment on a change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from realm_loadtests.report.checks import Check, headline
from realm_loadtests.report.summary import COLUMNS, ROWS
from realm_loadtests.report.text import number, visible

_MARKS: Final = {"held": "✅", "broken": "❌", "unproven": "⚠️"}


def markdown(result: Mapping[str, Any], found: Sequence[Check]) -> str:
    """The checks and the main figures of a load.json's document."""
    outcome, words = headline(found)
    target, figures, settings = result["target"], result["figures"], result["settings"]
    load = f"arrivals {settings['arrivals']}" if settings["arrivals"] else f"{settings['users']} users"
    lines = [
        f"## {_MARKS[outcome]} realm load: {words}",
        "",
        f"{_plain(target['model'])} at {_plain(target['url'])}: {_plain(load)}, "
        f"{figures['window_s']:.1f} s; {figures['completed']} requests completed, "
        f"{figures['failed']} failed, {number(figures['tokens_per_second'])} tokens/s.",
        "",
        *_table(["", "check", "seen"], [[_MARKS[each.outcome], each.name, each.message] for each in found]),
        *_table(
            ["latency, ms", *COLUMNS],
            [[title, *(number(figures[key][name]) for name in COLUMNS)] for title, key in ROWS],
        ),
    ]
    if tenants := result["tenants"]:
        rows = [
            [
                name,
                number(each["ttft_ms"]["p50"]),
                number(each["ttft_ms"]["p99"]),
                number(each["tokens_per_second"]),
            ]
            for name, each in tenants["each"].items()
        ]
        lines += _table(["tenant", "TTFT p50", "p99", "tokens/s"], rows)
    findings = (result["server"] or {}).get("findings", [])
    lines += [f"- {_plain(finding)}" for finding in findings]
    if result["note"]:
        lines += ["", f"Note: {_plain(result['note'])}."]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    ruler = ["---" if place == 0 else "---:" for place in range(len(head))]
    if head[1] == "check":
        ruler = ["---"] * len(head)
    body = [[_plain(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in (head, ruler, *body)] + [""]


def _plain(text: str) -> str:
    """One line whose characters mean nothing in Markdown or HTML: a model's name is the server's choice."""
    return re.sub(r"([\\`*_{}\[\]<>()#|!~&$@])", r"\\\1", " ".join(visible(text).split()))
