"""How options of the load commands are written; what is not so raises click.BadParameter with the remedy."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import click

from realm_loadtests.figures.slo import Objective, SloError, parse
from realm_loadtests.scenarios.spread import Spread, SpreadError
from realm_loadtests.users.arrivals import Arrivals, ArrivalsError
from realm_loadtests.users.tenants import TenantsError, read_tenants

OPEN_LOOP_STREAMS = 1000
"""The most streams at a time of an open loop, if nothing else is said."""
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> int:
    """Seconds of a duration written `30`, `30s`, `2m` or `1h`."""
    match = re.fullmatch(r"(\d{1,6})([smh]?)", text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if seconds < 1:
        raise click.BadParameter(f"{text!r} is not a duration; write 30s, 2m or 1h")
    return seconds


def finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """A callback of an option in a range, for `nan` is in every range, and `inf` in those without an end."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number")
    return value


def parse_share(text: str) -> float:
    """A part of the whole written `1%` or `0.01`, as a number from 0 to 1."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise click.BadParameter(f"{text!r} is not a share; write 1% or 0.01")
    return share


def parse_arrivals(text: str) -> str:
    """An arrival process, looked at here so that a mistake in it is told before anything starts."""
    try:
        Arrivals.parse(text)
    except ArrivalsError as error:
        raise click.BadParameter(str(error)) from None
    return text


def parse_spread(text: str) -> str:
    """A distribution of lengths in tokens."""
    try:
        Spread.parse(text)
    except SpreadError as error:
        raise click.BadParameter(str(error)) from None
    return text


def parse_objectives(text: str | Sequence[Objective]) -> Sequence[Objective]:
    """Service level objectives."""
    try:
        return parse(text) if isinstance(text, str) else text
    except SloError as error:
        raise click.BadParameter(str(error)) from None


def check_tenants(_: click.Context, __: click.Parameter, path: str | None) -> str | None:
    """A file of tenants, read once here so that a mistake in it is told before anything starts."""
    try:
        if path is not None:
            read_tenants(Path(path))
    except TenantsError as error:
        raise click.BadParameter(str(error)) from None
    return path


threshold_option = click.option(
    "--threshold",
    default="5%",
    show_default=True,
    metavar="SHARE",
    type=parse_share,
    help="A change of less is none.",
)
comparison_option = click.option(
    "--json", "output", type=click.Path(dir_okay=False, path_type=Path), help="Write the result there."
)
