"""`realm calibrate`: how far the load generator can be trusted on this machine."""

from __future__ import annotations

import json
import re
import sys

import click

from realm_loadtests.calibration import instrument as calibration
from realm_loadtests.calibration.calibrating import Plan, calibrate
from realm_loadtests.runs.launch import LocustFailed

UNTRUSTED = 3
"""Exit code: not even the lowest level is within the instrument's reach on this machine."""


def _streams(text: str | tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(text, tuple):
        return text
    if not re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*", text):
        raise click.BadParameter(f"{text!r} is no list of numbers of streams; write 1,16,64")
    return tuple(sorted({int(number) for number in text.split(",")}))


@click.command("calibrate")
@click.option(
    "--streams",
    default=(1, 16, 64, 128, 256, 512),
    type=_streams,
    metavar="N,N,...",
    help="Streams at a time, each measured by itself.  [default: 1,16,64,128,256,512]",
)
@click.option(
    "--duration",
    "duration_s",
    default=6,
    show_default=True,
    type=click.IntRange(3, 600),
    help="Seconds each.",
)
@click.option("--seed", default=7, show_default=True, type=click.IntRange(0), help="Of the arrivals.")
def calibrate_command(streams: tuple[int, ...], duration_s: int, seed: int) -> None:
    """Measure the load generator's own error on this machine, against an emitter whose send times are known.

    The result is kept, and later reports print it beside their figures. Let nothing else run meanwhile.

    Exit status: 0 kept, 2 it could not be measured, 3 kept, but not even the lowest level is within 1 ms.
    """
    try:
        found = calibrate(Plan(streams, duration_s, seed), click.echo)
        path = calibration.path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found.to_json(), indent=1) + "\n", encoding="utf-8")
    except (LocustFailed, ValueError, OSError) as error:
        raise click.UsageError(f"the calibration failed: {error}") from None
    trusted = found.trusted_streams
    within = "not even one level" if trusted is None else f"up to {trusted} streams"
    click.echo(f"\n  Within {calibration.TRUSTED_MS:g} ms (p99): {within}. Kept as {path}")
    sys.exit(UNTRUSTED if trusted is None else 0)
