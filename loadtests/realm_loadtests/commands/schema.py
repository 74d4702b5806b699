"""`realm load schema`: what a result of the load tests holds, as JSON Schema."""

from __future__ import annotations

from importlib.resources import files

import click

NAMES = ("load", "knee", "compare")


@click.command("schema")
@click.argument("name", type=click.Choice(NAMES), default="load")
def schema_command(name: str) -> None:
    """Print the JSON Schema (2020-12) of load.json, knee.json or what realm compare --json writes."""
    click.echo((files("realm_loadtests") / "schemas" / f"{name}.schema.json").read_text("utf-8"), nl=False)
