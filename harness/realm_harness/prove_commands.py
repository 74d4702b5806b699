"""`realm prove`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from realm_harness.prove.options import DEFAULT_MODEL, KEY_VARIABLE, Options

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType[int]):
    """A duration such as 20s, 2m or 1h, as whole seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds of a duration as written."""
        match = re.fullmatch(r"(\d{1,6})([smh]?)", str(value))
        seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
        if seconds < 1:
            self.fail(f"{value!r} is no duration; write 20s, 2m or 1h", param, ctx)
        return seconds


@click.command()
@click.option(
    "--target", metavar="URL", help="Test this server; without it, the reference is started and tested."
)
@click.option(
    "--api-key", envvar=KEY_VARIABLE, help=f"API key of the target; better given in {KEY_VARIABLE}."
)
@click.option(
    "--model",
    help=f"Model to ask the target for (its first), or to serve: name or GGUF file ({DEFAULT_MODEL}).",
)
@click.option(
    "--users", type=click.IntRange(1, 10_000), default=4, show_default=True, help="Users of the load test."
)
@click.option(
    "--duration", "duration_s", type=Duration(), default="20s", show_default=True, help="Of the load test."
)
@click.option(
    "--level",
    type=click.Choice(["must", "should"]),
    default="must",
    show_default=True,
    help="Fail on broken MUSTs only, or on SHOULDs too.",
)
@click.option("--no-load", is_flag=True, help="Conformance only.")
@click.option(
    "--compute", type=click.Choice(["auto", "jit", "numpy"]), help="What the reference computes with."
)
@click.option("--precision", type=click.Choice(["exact", "int8"]), help="The reference's precision.")
@click.option("--threads", type=click.IntRange(1, 256), help="The reference's threads.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("prove"),
    show_default=True,
    help="Folder for report.html, report.json, junit.xml and server.log; an earlier run's are replaced.",
)
@click.pass_context
def prove(context: click.Context, /, no_load: bool, **settings: Any) -> None:
    """Run the main job: conformance and load against a server, in one report.

    Without --target it fetches the embedded model, starts the reference server on a free loopback port,
    tests it over the wire and stops it.

    Exit code 0: the server keeps the contract. 1: it broke it, or failed under load. 2: it could not all be
    tested.
    """
    from realm_harness import prove as job
    from realm_harness.report import judge, summary, write_bundle

    options = Options(load=not no_load, **settings)
    if options.target is not None and options.computing:
        raise click.UsageError(f"{options.computing[0]} is for the reference; leave it out, or --target")
    try:
        run = job.prove(options)
        report = write_bundle(run, options.out, options.api_key)
    except (job.TargetUnusable, job.PartFailed) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot write to {options.out}: {error.strerror or error}") from None
    click.echo(summary(run, report))
    context.exit(judge(run).exit_code)
