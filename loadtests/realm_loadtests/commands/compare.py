"""`realm compare`: two sides' load tests, side by side, with a verdict."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from realm_loadtests.commands.parameters import parse_share
from realm_loadtests.figures.comparison import compare
from realm_loadtests.records.records import RECORDS_FILE, Record, read_records

WORSE = 5
"""Exit code: a figure got worse by more than the threshold."""


@click.command("compare")
@click.argument("a", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("b", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--more",
    "more",
    nargs=2,
    multiple=True,
    metavar="A B",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another run of each side, best taken in turns (A B A B).",
)
@click.option(
    "--threshold",
    default="5%",
    show_default=True,
    metavar="SHARE",
    type=parse_share,
    help="A change of less is none.",
)
@click.option("--seed", default=7, show_default=True, type=click.IntRange(0), help="Of the resampling.")
@click.option(
    "--json", "output", type=click.Path(dir_okay=False, path_type=Path), help="Write the result there."
)
def compare_command(
    a: Path, b: Path, more: tuple[tuple[Path, Path], ...], threshold: float, seed: int, output: Path | None
) -> None:
    """Compare the load test in folder B with the one in folder A.

    Exit status: 0 nothing got worse, 2 nothing to compare, 5 a figure got worse by more than the threshold.
    """
    sides = [[_records(folder) for folder in side] for side in zip((a, b), *more, strict=True)]
    try:
        result = compare(*sides, threshold=threshold, seed=seed)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo("\n".join(table(result)))
    if output is not None:
        try:
            output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"{output} cannot be written: {error.strerror}") from None
    sys.exit(WORSE if any(figure["verdict"] == "worse" for figure in result["figures"]) else 0)


def _records(folder: Path) -> list[Record]:
    if not (folder / RECORDS_FILE).is_file():
        raise click.UsageError(f"{folder} holds no load test: it has no {RECORDS_FILE}")
    return list(read_records(folder))


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
