"""`realm compare run`: two servers loaded in turns, A B A B, and compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from realm_loadtests.commands.parameters import (
    OPEN_LOOP_STREAMS,
    comparison_option,
    parse_arrivals,
    parse_duration,
    threshold_option,
)
from realm_loadtests.commands.verdicts import report_comparison
from realm_loadtests.figures.comparison import compare
from realm_loadtests.records.records import Record, read_records
from realm_loadtests.runs.launch import LocustFailed
from realm_loadtests.runs.loadtest import CLIENT_LIMITED, Unwritten, run
from realm_loadtests.runs.preflight import TargetUnusable
from realm_loadtests.scenarios import SCENARIOS
from realm_loadtests.settings import KEY_VARIABLE, Settings
from realm_loadtests.users.arrivals import FORMS

CLOSED_LOOP_USERS = 4


@click.command("run")
@click.argument("url_a")
@click.argument("url_b")
@click.option(
    "--rounds", default=3, show_default=True, type=click.IntRange(1, 100), help="Runs of each side."
)
@click.option("--each", "duration", default="10s", show_default=True, type=parse_duration, help="A run.")
@click.option("--users", type=click.IntRange(1, 10_000), help="As of realm load.  [default: 4]")
@click.option("--arrivals", metavar="PROCESS", type=parse_arrivals, help=f"Open loop: {FORMS}.")
@click.option("--scenario", type=click.Choice(sorted(SCENARIOS)), default="chat", show_default=True)
@click.option("--model", default="", help="Model to ask for.  [default: each side's first]")
@click.option("--max-tokens", default=64, type=click.IntRange(1), show_default=True, help="Longest answer.")
@threshold_option
@click.option(
    "--baseline",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An earlier --json of such a comparison: judge whether B got worse beside A since then.",
)
@click.option(
    "--seed",
    default=7,
    show_default=True,
    type=click.IntRange(0),
    help="Of prompts, arrivals and the resampling.",
)
@click.option("--api-key", envvar=KEY_VARIABLE, help=f"Better given in {KEY_VARIABLE}.")
@click.option(
    "--out",
    default="realm-compare",
    type=click.Path(file_okay=False, path_type=Path),
    show_default=True,
    help="Folder for a folder of each run.",
)
@comparison_option
def compare_run_command(
    url_a: str,
    url_b: str,
    rounds: int,
    duration: int,
    threshold: float,
    baseline: Path | None,
    api_key: str | None,
    out: Path,
    output: Path | None,
    **options: Any,
) -> None:
    """Load the servers at URL_A and URL_B in turns, and compare B with A.

    What the machine does meanwhile befalls both. With --baseline A is a yardstick: it is not the times that
    are compared with earlier ones, which another machine's would be, but their ratio to the yardstick's.

    Exit status: 0 nothing got worse, 2 wrong usage, a target that is not there or nothing to compare, 3 the
    generator may have been the bottleneck, 5 a figure got worse by more than the threshold.
    """
    options["users"] = options["users"] or (OPEN_LOOP_STREAMS if options["arrivals"] else CLOSED_LOOP_USERS)
    sides: dict[str, list[list[Record]]] = {"a": [], "b": []}
    limited = False
    try:
        for number in range(1, rounds + 1):
            for side, url in (("a", url_a), ("b", url_b)):
                folder = out / f"{side}{number}"
                click.echo(f"  round {number} of {rounds}, {side.upper()}: {url}", err=True)
                settings = Settings(
                    url=url,
                    duration_s=duration,
                    spawn_rate=min(float(options["users"]), 100.0),
                    folder=str(folder.resolve()),
                    **options,
                )
                result = run(settings, api_key=api_key)
                limited = limited or result["generator"]["may_be_the_bottleneck"]
                sides[side].append(list(read_records(folder)))
        found = compare(sides["a"], sides["b"], threshold=threshold, seed=options["seed"])
    except (TargetUnusable, LocustFailed, Unwritten, ValueError, OSError) as error:
        click.echo(f"realm compare run: {error}", err=True)
        sys.exit(2)
    code = report_comparison(found, baseline, output)
    if limited and not code:
        click.echo("  Careful: the load generator may have been the bottleneck of a run.", err=True)
    sys.exit(code or (CLIENT_LIMITED if limited else 0))
