"""`realm usage`: what tenants have used, from the ledger."""

from __future__ import annotations

import csv
import datetime
import json
import re
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from realm_reference.command_options import CannotStart
from realm_reference.tenants.ledger import LedgerError
from realm_reference.tenants.usage import GROUPS, Period, usage

_AGO: Final = re.compile(r"(\d+)([mhdw])")
_UNITS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


class Moment(click.ParamType[float]):
    """A point in time as Unix seconds: ISO 8601 (UTC unless it says otherwise), or so long ago."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> float:
        """`2026-11-23`, `2026-11-23T10:00`, `36h`."""
        if isinstance(value, float):
            return value
        if ago := _AGO.fullmatch(value):
            return time.time() - int(ago[1]) * _UNITS[ago[2]]
        try:
            moment = datetime.datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a date (2026-11-23, 2026-11-23T10:00) nor an age (90m, 36h, 7d)")
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


@click.command("usage")
@click.option(
    "--ledger",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    envvar="REALM_SERVE_LEDGER",
    show_envvar=True,
    help="The file that `realm serve --ledger` writes.",
)
@click.option("--tenant", help="Only this tenant's requests.")
@click.option("--since", type=Moment(), help="From this time on: a date, a date and time (UTC), or 36h, 7d.")
@click.option("--until", type=Moment(), help="Before this time.")
@click.option(
    "--by",
    type=click.Choice([*GROUPS, "request"]),
    default="tenant",
    show_default=True,
    help="What to sum up by; `request` lists each.",
)
@click.option("--csv", "as_csv", is_flag=True, help="As CSV, with a head line.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def usage_command(
    path: Path,
    tenant: str | None,
    since: float | None,
    until: float | None,
    by: str,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Sum up requests and tokens. Every request that was let in counts, also one that its client left."""
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are two forms of one output; choose one")
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until")
    try:
        rows = usage(path, Period(since, until, tenant), by)
    except LedgerError as error:
        raise CannotStart(str(error)) from None
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    elif not rows:
        click.echo("no requests", err=True)
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _table(rows)


def _table(rows: list[dict[str, Any]]) -> None:
    cells = [[name.upper() for name in rows[0]], *([_cell(v) for v in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [isinstance(value, int | float) for value in rows[0].values()]
    for line in cells:
        click.echo(
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(line, widths, numeric, strict=True)
            ).rstrip()
        )


def _cell(value: Any) -> str:
    return "-" if value is None else str(value)
