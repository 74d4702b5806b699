"""`realm load`: a load test from the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from realm_loadtests.commands.groups import DefaultGroup
from realm_loadtests.commands.knee import knee_command
from realm_loadtests.commands.parameters import (
    OPEN_LOOP_STREAMS,
    check_tenants,
    finite,
    parse_arrivals,
    parse_duration,
    parse_objectives,
    parse_share,
    parse_spread,
)
from realm_loadtests.commands.schema import schema_command
from realm_loadtests.commands.worker import parse_address, worker_command
from realm_loadtests.figures.slo import EXAMPLE, Objective
from realm_loadtests.records.begun import NoRun
from realm_loadtests.records.records import RECORDS_FILE
from realm_loadtests.report.files import PAGE_FILE, write_reports
from realm_loadtests.report.progress import Progress
from realm_loadtests.report.summary import summarise
from realm_loadtests.runs.launch import MASTER_PORT, LocustFailed
from realm_loadtests.runs.loadtest import RESULT_FILE, Unwritten, exit_code, report, run
from realm_loadtests.runs.preflight import TargetUnusable
from realm_loadtests.scenarios import SCENARIOS
from realm_loadtests.scenarios.spread import FORMS as SPREADS
from realm_loadtests.settings import KEY_VARIABLE, Settings
from realm_loadtests.users.arrivals import FORMS

CLOSED_LOOP_USERS = 4


@click.group(cls=DefaultGroup, default="run")
def load() -> None:
    """Load-test a server with streaming users, or report such a test again."""


_SLO = click.option(
    "--slo",
    "objectives",
    metavar="LIMITS",
    default=(),
    type=parse_objectives,
    help=f"Objectives to be met: {EXAMPLE}, or @FILE.",
)
_ALLOW_ERRORS = click.option(
    "--allow-errors",
    default="0%",
    metavar="SHARE",
    type=parse_share,
    show_default=True,
    help="Share of requests that may fail.",
)
_JUNIT = click.option(
    "--junit",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write JUnit XML there: a case for each objective and each class of failures.",
)
_SUMMARY = click.option(
    "--summary",
    metavar="FILE",
    envvar="GITHUB_STEP_SUMMARY",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append Markdown there.  [default: GITHUB_STEP_SUMMARY, the summary of a GitHub step]",
)


@load.command("run")
@click.argument("url")
@click.option(
    "--users",
    type=click.IntRange(1, 10_000),
    help="Streams at a time; with --arrivals the most of them.  [default: 4, with --arrivals 1000]",
)
@click.option(
    "--arrivals",
    metavar="PROCESS",
    type=parse_arrivals,
    help=f"Open loop: when requests start, whatever the server does: {FORMS}.",
)
@click.option(
    "--scenario",
    type=click.Choice(sorted(SCENARIOS)),
    help="What the users do.  [default: chat, or lengths where one is given]",
)
@click.option(
    "--adapter", "adapters", multiple=True, help="One that requests may name (scenario adapters); repeatable."
)
@click.option(
    "--tenants",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True),
    callback=check_tenants,
    help="Tenants of the run, a file of lines NAME KEY [WEIGHT]; figures are for each of them too.",
)
@_SLO
@click.option(
    "--duration",
    default="30s",
    metavar="TIME",
    type=parse_duration,
    show_default=True,
    help="How long: 30s, 2m, 1h.",
)
@click.option(
    "--spawn-rate",
    type=click.FloatRange(0.01),
    callback=finite,
    help="Users started a second.  [default: all at once, 100 at most]",
)
@click.option("--model", default="", help="Model to ask for.  [default: the first of /v1/models]")
@click.option("--max-tokens", default=64, type=click.IntRange(1), show_default=True, help="Longest answer.")
@click.option(
    "--prompt-tokens",
    metavar="LENGTHS",
    type=parse_spread,
    help=f"Prompts of exactly so many tokens, as the server counts them: {SPREADS}.",
)
@click.option(
    "--output-tokens",
    metavar="LENGTHS",
    type=parse_spread,
    help="Each answer's own max_tokens, drawn alike; the report says how many answers went so far.",
)
@click.option("--prompt", help="Ask this each time.  [default: a built-in set]")
@click.option("--seed", default=0, show_default=True, help="Decides prompts and sampling seeds.")
@click.option("--api-key", envvar=KEY_VARIABLE, help=f"Better given in {KEY_VARIABLE}.")
@click.option(
    "--timeout",
    "timeout_s",
    default=120.0,
    type=click.FloatRange(0.1, 3600),
    callback=finite,
    show_default=True,
    help="Seconds that one request may take.",
)
@click.option(
    "--drain",
    "drain_s",
    default=10.0,
    type=click.FloatRange(0, 3600),
    callback=finite,
    show_default=True,
    help="Seconds that open streams get to end after the duration.",
)
@_ALLOW_ERRORS
@click.option(
    "--stall-factor",
    default=4.0,
    show_default=True,
    type=click.FloatRange(1, min_open=True),
    callback=finite,
    help="A gap of so many times the run's median gap is a stall.",
)
@click.option(
    "--metrics",
    metavar="URL",
    help="Page of the server's own metrics; '' asks for none.  [default: /metrics of URL]",
)
@click.option("--processes", default=1, type=click.IntRange(1, 64), show_default=True, help="Locust workers.")
@click.option(
    "--workers",
    type=click.IntRange(1, 1000),
    help="Leave the load to so many of other machines: there, realm load worker THIS-HOST.",
)
@click.option(
    "--bind",
    metavar="HOST[:PORT]",
    default=f"127.0.0.1:{MASTER_PORT}",
    show_default=True,
    type=parse_address,
    help="Where to wait for --workers; 0.0.0.0 for all of this machine's networks.",
)
@click.option(
    "--ui", "web_port", type=click.IntRange(1, 65535), help="Show locust's web UI on this port meanwhile."
)
@click.option(
    "--out",
    default="realm-load",
    type=click.Path(file_okay=False, path_type=Path),
    show_default=True,
    help="Folder for load.json, report.html and requests.jsonl; an earlier run's are replaced.",
)
@_JUNIT
@_SUMMARY
def run_command(
    url: str,
    out: Path,
    api_key: str | None,
    allow_errors: float,
    duration: int,
    users: int | None,
    arrivals: str | None,
    objectives: Sequence[Objective],
    spawn_rate: float | None,
    web_port: int | None,
    junit: Path | None,
    summary: Path | None,
    workers: int | None,
    bind: tuple[str, int],
    scenario: str | None,
    **options: Any,
) -> None:
    """Load-test the OpenAI-compatible server at URL with streaming users.

    Exit status: 0 all well, 1 requests failed, 2 wrong usage or the target is not there, 3 the generator may
    have been the bottleneck of a run with --slo or --arrivals, 4 an objective was missed.

    `realm load report DIR` makes the result of an earlier run again, from its records.
    """
    if workers:
        if options["processes"] > 1:
            raise click.UsageError(
                "--processes are workers of this machine, --workers of others: give one of them"
            )
        options["processes"] = workers
        click.echo(f"Waiting for {workers} workers: realm load worker THIS-HOST:{bind[1]}", err=True)
    drawn = options["prompt_tokens"] or options["output_tokens"]
    if drawn and (scenario not in (None, "lengths") or options["prompt"]):
        raise click.UsageError("--prompt-tokens and --output-tokens draw prompts: leave the other ones out")
    users = users or (OPEN_LOOP_STREAMS if arrivals else CLOSED_LOOP_USERS)
    settings = Settings(
        url=url,
        duration_s=duration,
        users=users,
        arrivals=arrivals,
        scenario=scenario or ("lengths" if drawn else "chat"),
        spawn_rate=spawn_rate or min(float(users), 100.0),
        folder=str(out.resolve()),
        **options,
    )
    try:
        with Progress(duration) as progress:
            result = run(
                settings,
                api_key=api_key,
                web_port=web_port,
                bind=bind if workers else None,
                on_progress=progress.show,
                objectives=objectives,
            )
    except (TargetUnusable, LocustFailed, ValueError) as error:
        click.echo(f"realm load: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        click.echo(f"realm load: {out} cannot be used ({error.strerror}): name another with --out", err=True)
        sys.exit(2)
    except Unwritten as lost:
        click.echo(f"{summarise(lost.result)}\n")
        click.echo(f"realm load: {lost}", err=True)
        sys.exit(2)
    _end(result, out, allow_errors, junit, summary)


@load.command("report")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_SLO
@_ALLOW_ERRORS
@_JUNIT
@_SUMMARY
def report_command(
    folder: Path,
    objectives: Sequence[Objective],
    allow_errors: float,
    junit: Path | None,
    summary: Path | None,
) -> None:
    """Make the result of the run in DIR again, from its records: with other objectives, or of a killed run.

    Exit status: as of a run.
    """
    try:
        result = report(folder, objectives)
    except (NoRun, Unwritten, OSError) as error:
        click.echo(f"realm load report: {error}", err=True)
        sys.exit(2)
    _end(result, folder, allow_errors, junit, summary)


def _end(
    result: dict[str, Any], out: Path, allow_errors: float, junit: Path | None, summary: Path | None
) -> NoReturn:
    click.echo(summarise(result))
    try:
        write_reports(result, out, allow_errors, junit=junit, summary=summary)
    except OSError as error:
        click.echo(f"realm load: a report cannot be written: {error}", err=True)
        sys.exit(2)
    click.echo(f"\n  Report: {out / PAGE_FILE}; figures and definitions: {out / RESULT_FILE}; ", nl=False)
    click.echo(f"each request: {out / RECORDS_FILE}")
    sys.exit(exit_code(result, allow_errors))


load.add_command(knee_command)
load.add_command(schema_command)
load.add_command(worker_command)
