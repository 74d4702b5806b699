"""`realm compare`: two sides' load tests, side by side, with a verdict."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from realm_loadtests.commands.compare_run import compare_run_command
from realm_loadtests.commands.groups import DefaultGroup
from realm_loadtests.commands.parameters import comparison_option, threshold_option
from realm_loadtests.commands.verdicts import report_comparison
from realm_loadtests.figures.comparison import compare
from realm_loadtests.records.records import RECORDS_FILE, Record, read_records


@click.group("compare", cls=DefaultGroup, default="folders")
def compare_command() -> None:
    """Compare the load tests in two folders, or of two servers, with intervals and a verdict."""


@click.command("folders")
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
@threshold_option
@click.option("--seed", default=7, show_default=True, type=click.IntRange(0), help="Of the resampling.")
@click.option(
    "--baseline",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An earlier --json: judge whether B got worse beside A since then, instead of B against A.",
)
@comparison_option
def folders_command(
    a: Path,
    b: Path,
    more: tuple[tuple[Path, Path], ...],
    threshold: float,
    seed: int,
    baseline: Path | None,
    output: Path | None,
) -> None:
    """Compare the load test in folder B with the one in folder A.

    `realm compare run URL_A URL_B` makes the runs too, in turns.

    Exit status: 0 nothing got worse, 2 nothing to compare, 5 a figure got worse by more than the threshold.
    """
    sides = [[_records(folder) for folder in side] for side in zip((a, b), *more, strict=True)]
    try:
        result = compare(*sides, threshold=threshold, seed=seed)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    sys.exit(report_comparison(result, baseline, output))


def _records(folder: Path) -> list[Record]:
    if not (folder / RECORDS_FILE).is_file():
        raise click.UsageError(f"{folder} holds no load test: it has no {RECORDS_FILE}")
    return list(read_records(folder))


compare_command.add_command(folders_command)
compare_command.add_command(compare_run_command)
