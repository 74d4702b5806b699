"""`realm score`: the suites held to account, on what has a planted defect."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from realm_harness.case import load_cases
from realm_harness.conform_commands import FILE, EnvironmentProblem, guests_need, no_case

if TYPE_CHECKING:
    from realm_harness.hostsuite.score import Hosts
    from realm_harness.score import DefectScore, Score

SCHEMA = "realm-scores/1"

Names = tuple[str, ...]

SHOWN = 4
"""Cases that are named as soon as a defect is scored; the matrix has them all."""


@click.command()
@click.option("--guest", is_flag=True, help="Score the guest suite, on guests built for it.")
@click.option("--host", is_flag=True, help="Score the host suite, on MockHosts.")
@click.option("--all", "every", is_flag=True, help="Score all three suites, one after the other.")
@click.option(
    "--hosts",
    "files",
    multiple=True,
    metavar="FILE.py",
    type=click.Path(path_type=Path),
    help="Score the host suite on the hosts of a Python file too, its table HOSTS; may be repeated.",
)
@click.option("--case", "globs", multiple=True, metavar="GLOB", help="Only these cases; may be repeated.")
@click.option(
    "--defect", "wanted", multiple=True, metavar="ID", help="Only these planted defects; may be repeated."
)
@click.option("--json", "json_file", type=FILE, help="Write the score file.")
def score(
    guest: bool,
    host: bool,
    every: bool,
    files: tuple[Path, ...],
    globs: Names,
    wanted: Names,
    json_file: Path | None,
) -> None:
    """Show that the cases catch planted defects, and accuse nothing that is healthy.

    Without a mode the chat cases are scored, on servers.

    Exit code 0: they do. 1: a defect is caught by nobody, or something healthy is accused. 2: bad arguments.
    """
    modes = [name for name, given in (("guest", guest), ("host", host), ("all", every)) if given]
    if len(modes) > 1:
        raise click.UsageError(f"--{modes[0]} and --{modes[1]} are two modes; choose one, or --all")
    for file in files:
        hosts_in(file)  # what is wrong with the last of them shows before the first is scored
    parts = chosen(modes[0] if modes else None, files)
    if len(parts) > 1 and (globs or wanted):
        raise EnvironmentProblem("--case and --defect are of one suite; leave them out, or choose one suite")
    made = {name: scored(name, part, globs, wanted) for name, part in parts.items()}
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(as_json(made), indent=1) + "\n", "utf-8")
    sys.exit(0 if all(part.good for part in made.values()) else 1)


Part = Callable[[Names, Names], "Score"]


def chosen(mode: str | None, files: tuple[Path, ...]) -> dict[str, Part]:
    """The suites to score, by the names under which they stand in the score file."""
    known: dict[str, Part] = {"server": score_on_servers, "guest": score_on_guests, "host": score_on_hosts}
    of_files: dict[str, Part] = {
        str(file): lambda globs, wanted, file=file: score_on_hosts(globs, wanted, file)  # type: ignore[misc]
        for file in files
    }
    if mode == "all":
        return known | of_files
    if mode is None:
        return of_files or {"server": score_on_servers}
    return {mode: known[mode]} | of_files


def scored(name: str, part: Part, globs: Names, wanted: Names) -> Score:
    """One suite's score, shown."""
    from realm_harness.score import matrix_lines

    begun = time.monotonic()
    made = part(globs, wanted)
    click.echo()
    for line in matrix_lines(made):
        click.echo(line)
    show_verdict(made)
    click.echo(f"{name}: scored in {time.monotonic() - begun:.0f} s\n")
    return made


def as_json(made: dict[str, Score]) -> dict[str, Any]:
    """The score file: of one suite as it is, of several each under its name."""
    parts = {name: part.as_json() for name, part in made.items()}
    if len(parts) == 1:
        return next(iter(parts.values()))
    return {"schema": SCHEMA, "good": all(part.good for part in made.values()), "scores": parts}


def score_on_servers(globs: Names, wanted: Names) -> Score:
    """The chat cases against MockServers."""
    from realm_mocks.server import DEFECTS

    from realm_harness.score import score_all

    known_only(wanted, list(DEFECTS))
    cases = load_cases(globs)
    if not cases:
        raise no_case(globs, "CHAT-STREAM-007")
    defects = [variation for name, variation in DEFECTS.items() if not wanted or name in wanted]
    click.echo(f"{len(cases)} cases against a healthy server and {len(defects)} planted defects")
    return score_all(cases, defects, show_defect)


def score_on_hosts(globs: Names, wanted: Names, file: Path | None = None) -> Score:
    """The host cases on MockHosts, or on the hosts of a file."""
    hosts = hosts_in(file)
    from realm_harness.hostsuite.score import asked, score_hosts

    known_only(wanted, list(hosts.defects))
    cases = asked(hosts, globs)
    if not cases:
        raise no_case(globs, "HOST-FORWARD-PTR-001")
    count = len(wanted or hosts.defects)
    click.echo(f"{len(cases)} cases against a healthy {hosts.name} and {count} with a defect each")
    return score_hosts(globs, wanted, show_defect, file)


def hosts_in(file: Path | None) -> Hosts:
    """The hosts of a file, or the MockHosts; EnvironmentProblem where there are none."""
    try:
        from realm_harness.hostsuite.score import NoHosts, hosts_of
    except ModuleNotFoundError as missing:
        raise guests_need(missing) from None
    try:
        return hosts_of(file)
    except NoHosts as reason:
        raise EnvironmentProblem(str(reason)) from None


def known_only(wanted: Names, known: list[str]) -> None:
    """EnvironmentProblem for a defect that is none."""
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise EnvironmentProblem(f"unknown defect '{unknown[0]}'; known are {', '.join(sorted(known))}")


def score_on_guests(globs: Names, wanted: Names) -> Score:
    """The guest cases on the built guests and on those with a defect."""
    try:
        from realm_harness.guestsuite import score as guests
    except ModuleNotFoundError as missing:
        raise guests_need(missing) from None
    with tempfile.TemporaryDirectory() as folder:
        try:
            variants = guests.build_variants(Path(folder), wanted)
        except guests.NoVariants as reason:
            raise EnvironmentProblem(str(reason)) from None
        click.echo(f"the cases on {len(guests.BUILT)} healthy guests and {len(variants)} with a defect each")
        made = guests.score_guests(variants, globs, show_defect)
    if not made.cases:
        raise no_case(globs, "GUEST-TRACE-001")
    return made


def show_defect(entry: DefectScore) -> None:
    """One line for a defect as soon as it is scored."""
    caught = ", ".join(entry.caught_by[:SHOWN])
    if len(entry.caught_by) > SHOWN:
        caught += f" and {len(entry.caught_by) - SHOWN} more"
    mark = click.style("  caught", fg="green") if caught else click.style("UNCAUGHT", fg="red")
    click.echo(f"{mark}  {entry.defect.id:<28} {caught or entry.defect.sentence}")


def show_verdict(made: Score) -> None:
    """What the score comes to."""
    click.echo()
    for result in made.healthy_failures:
        click.echo(f"accuses what is healthy: {result.case.id}: {result.message}")
    for entry in made.uncaught:
        click.echo(f"caught by nobody: {entry.defect.id}: {entry.defect.sentence} ({entry.defect.source})")
    if made.unjudged:
        click.echo(f"cases that could not judge what is healthy: {', '.join(made.unjudged)}")
    if made.idle:
        click.echo(f"idle cases, which caught nothing: {', '.join(made.idle)}")
    caught = len(made.defects) - len(made.uncaught)
    click.echo(
        f"{caught} of {len(made.defects)} defects caught, {len(made.healthy_failures)} false accusations"
    )
