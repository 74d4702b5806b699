"""`realm load knee`: the highest rate at which a server keeps its objectives."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from realm_loadtests.commands.parameters import OPEN_LOOP_STREAMS, parse_duration, parse_objectives
from realm_loadtests.figures.slo import EXAMPLE, Objective
from realm_loadtests.records.records import read_records
from realm_loadtests.report.files import PAGE_FILE
from realm_loadtests.report.page import render_knee
from realm_loadtests.runs.knee import Knee, Step, find, holds
from realm_loadtests.runs.launch import LocustFailed
from realm_loadtests.runs.loadtest import CLIENT_LIMITED, SLO_MISSED, Unwritten, run
from realm_loadtests.runs.preflight import TargetUnusable
from realm_loadtests.scenarios import SCENARIOS
from realm_loadtests.settings import KEY_VARIABLE, Settings
from realm_loadtests.users.arrivals import HIGHEST_RATE

RATE = click.FloatRange(0.001, HIGHEST_RATE)


@click.command("knee")
@click.argument("url")
@click.option("--from", "lowest", default=1.0, show_default=True, type=RATE, help="Lowest rate, a second.")
@click.option("--to", "highest", default=64.0, show_default=True, type=RATE, help="Highest rate, a second.")
@click.option(
    "--slo",
    "objectives",
    required=True,
    metavar="LIMITS",
    type=parse_objectives,
    help=f"Objectives that have to hold: {EXAMPLE}, or @FILE.",
)
@click.option(
    "--each", "duration", default="10s", show_default=True, type=parse_duration, help="A rate's run."
)
@click.option(
    "--refine", default=3, show_default=True, type=click.IntRange(0, 10), help="Halvings of the gap."
)
@click.option("--scenario", type=click.Choice(sorted(SCENARIOS)), default="chat", show_default=True)
@click.option("--model", default="", help="Model to ask for.  [default: the first of /v1/models]")
@click.option("--max-tokens", default=64, type=click.IntRange(1), show_default=True, help="Longest answer.")
@click.option("--seed", default=0, show_default=True, help="Decides arrivals, prompts and sampling seeds.")
@click.option("--api-key", envvar=KEY_VARIABLE, help=f"Better given in {KEY_VARIABLE}.")
@click.option(
    "--out",
    default="realm-knee",
    type=click.Path(file_okay=False, path_type=Path),
    show_default=True,
    help="Folder for knee.json, report.html and a folder of each rate's run.",
)
def knee_command(
    url: str,
    lowest: float,
    highest: float,
    objectives: Sequence[Objective],
    duration: int,
    refine: int,
    api_key: str | None,
    out: Path,
    **options: Any,
) -> None:
    """Find the highest rate of Poisson arrivals at URL at which the objectives still hold.

    Exit status: 0 found, or holding at the highest rate; 2 wrong usage or the target is not there; 3 the
    generator may have been the bottleneck; 4 not even the lowest rate holds.
    """
    if highest < lowest:
        raise click.UsageError(f"--to {highest:g} is below --from {lowest:g}")

    def step(rate: float) -> Step:
        folder = out / f"rate-{rate:.3f}"
        settings = Settings(
            url=url,
            duration_s=duration,
            users=OPEN_LOOP_STREAMS,
            arrivals=f"poisson:{rate:.3f}",
            folder=str(folder.resolve()),
            **options,
        )
        result = run(settings, api_key=api_key, objectives=objectives)
        share = holds(list(read_records(folder)), objectives, options["seed"])
        limited = result["generator"]["may_be_the_bottleneck"]
        click.echo(f"  {rate:>9.3f} a second: the objectives hold in {share:.0%} of the resamples")
        return Step(rate, share, limited, _seen(result["figures"]))

    try:
        knee = find(step, lowest, highest, refine)
        words = _sentence(knee, lowest, highest)
        _write(out, knee, words)
    except (TargetUnusable, LocustFailed, Unwritten, ValueError, OSError) as error:
        click.echo(f"realm load knee: {error}", err=True)
        sys.exit(2)
    click.echo(f"\n  {words}\n  Report: {out / PAGE_FILE}; each rate's run is in a folder beside it")
    if knee.steps[0].holds < 0.5:
        sys.exit(SLO_MISSED)
    sys.exit(CLIENT_LIMITED if any(each.client_limited for each in knee.steps) else 0)


def _seen(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """What a rate's run is described by."""
    latencies = (("ttft", "p50"), ("ttft", "p99"), ("itl", "p99"))
    seen = {f"{name}_{rank}_ms": figures[f"{name}_ms"][rank] for name, rank in latencies}
    return seen | {"tokens_per_second": figures["tokens_per_second"]}


def _write(out: Path, knee: Knee, words: str) -> None:
    """Write knee.json and its page."""
    from realm_loadtests.report.plots import draw_knee  # slow to import, and needed at the end only

    document = knee.to_json()
    (out / "knee.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (out / PAGE_FILE).write_text(render_knee(document, words, draw_knee(document)), encoding="utf-8")


def _sentence(knee: Knee, lowest: float, highest: float) -> str:
    if knee.rate is not None:
        reach = " to ".join("?" if end is None else f"{end:g}" for end in (knee.low, knee.high))
        return f"The objectives hold up to {knee.rate:g} requests a second (95 % interval {reach})."
    if knee.steps[0].holds >= 0.5:
        return f"The objectives hold at every rate up to {highest:g} a second: try a higher --to."
    return f"The objectives do not even hold at {lowest:g} a second: try a lower --from."
