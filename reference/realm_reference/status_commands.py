"""`realm status` and `realm logs`: how deployed servers are, and what they say."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from realm_reference.deploy_commands import failures

NOT_READY = 1


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME|URL]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(names: tuple[str, ...], as_json: bool) -> None:
    """Show processes, readiness and versions: of all local deployments, of those named, of servers by URL.

    Exit codes: 0 everything is ready, 1 something is not, 2 there is no such deployment.
    """
    with failures():
        from realm_reference.deploy.status import gather, table

        rows = gather(names)
        ready = bool(rows) and all(row.ready for row in rows)
        if as_json:
            click.echo(json.dumps({"ready": ready, "servers": [asdict(row) for row in rows]}, indent=2))
        else:
            click.echo(table(rows) if rows else "Nothing is deployed here.")
        if not ready:
            click.get_current_context().exit(NOT_READY)


@click.command()
@click.argument("name", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines as they come.")
@click.option("--since", "since_text", metavar="TIME", help="A span such as 10m or 2h, or an ISO time.")
@click.option("--tenant", help="Lines of this tenant's requests.")
@click.option("--request", help="Lines of the request with this id.")
@click.option("--replica", multiple=True, help="Lines of this replica; may be given again.")
@click.option(
    "--level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Lines of this level or above.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the lines as JSON.")
def logs(
    name: str | None,
    follow: bool,
    since_text: str | None,
    tenant: str | None,
    request: str | None,
    replica: tuple[str, ...],
    level: str | None,
    as_json: bool,
) -> None:
    """Show the logs of a local deployment's replicas as one, in the order of time.

    NAME may be left out where there is one deployment. With - the lines are read from stdin, so that logs of
    other platforms can be chosen from: kubectl logs --selector app=NAME | realm logs - --tenant TENANT
    """
    with failures():
        from realm_reference.deploy import logs as reading

        wanted = reading.Filter(
            reading.since(since_text) if since_text else None,
            tenant,
            request,
            tuple(number.zfill(2) for number in replica),
            level,
        )
        entries = reading.from_stdin() if name == "-" else reading.of_deployment(name, follow)
        for entry in entries:
            if wanted.wants(entry):
                click.echo(entry.json() if as_json else entry.text())
