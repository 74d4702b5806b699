"""How a comparison ends: said, written, and with an exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from realm_loadtests.figures.comparison import since

WORSE = 5
"""Exit code: a figure got worse by more than the threshold."""


def report_comparison(result: dict[str, Any], baseline: Path | None, output: Path | None) -> int:
    """Show a comparison, judged against an earlier one if there is one; write it; return the exit code."""
    earlier = _earlier(baseline) if baseline else None
    click.echo("\n".join(table(result)))
    judged = result["figures"]
    if earlier:
        judged = result["since"] = since(result, earlier)
        click.echo("\n".join(["", f"  B beside A, since {baseline}:", *since_table(judged)]))
    if output is not None:
        try:
            output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"{output} cannot be written: {error.strerror}") from None
    return WORSE if any(figure["verdict"] == "worse" for figure in judged) else 0


def _earlier(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        for each in document["figures"]:
            _ = (each["figure"], float(each["change"]), float(each["low"]), float(each["high"]))
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise click.UsageError(f"{path} is no result of realm compare --json ({error})") from None
    return dict(document)


def table(result: dict[str, Any]) -> list[str]:
    """The result as a person reads it."""
    lines = [f"  {'':<12}{'A':>12}{'B':>12}{'change':>10}   95 % interval"]
    for each in result["figures"]:
        a, b, change, low, high = (each[name] for name in ("a", "b", "change", "low", "high"))
        unit = f" {each['unit']}" if each["unit"] else ""
        lines.append(
            f"  {each['figure']:<12}{a:>9.3f}{unit:<3}{b:>9.3f}{unit:<3}{change:>+10.1%}   "
            f"{low:+.1%} to {high:+.1%}   {each['verdict']}"
        )
    runs, requests = result["runs"], result["requests"]
    lines.append(
        f"  runs {runs['a']} and {runs['b']}, requests {requests['a']} and {requests['b']}; "
        f"Cliff's delta of TTFT {result['effect']['ttft_cliffs_delta']}; threshold {result['threshold']:.0%}"
    )
    return lines


def since_table(figures: list[dict[str, Any]]) -> list[str]:
    """What changed since the baseline, as a person reads it."""
    return [
        f"  {each['figure']:<12}{each['change']:>+10.1%}   {each['low']:+.1%} to {each['high']:+.1%}   "
        f"{each['verdict']}"
        for each in figures
    ]
