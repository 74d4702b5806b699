"""The options of a command that serves on a schedule: `MockServer`'s and the emitter's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from realm_mocks.server.schedule import Schedule

Command = Callable[..., None]


def schedule_options(ttft_ms: float, itl_ms: float, tokens: int | None) -> Callable[[Command], Command]:
    """Give a command the options of a schedule, with these defaults, for `schedule_of`."""
    options = (
        click.option(
            "--ttft-ms", default=ttft_ms, show_default=True, help="Milliseconds to the first token."
        ),
        click.option("--itl-ms", default=itl_ms, show_default=True, help="Milliseconds between tokens."),
        click.option(
            "--tokens",
            default=tokens,
            show_default="as the scripted model likes" if tokens is None else True,
            type=click.IntRange(1),
            help="Tokens of an answer.",
        ),
        click.option(
            "--stall", type=(int, float), multiple=True, help="Token index and milliseconds it comes late."
        ),
        click.option("--jitter-ms", default=0.0, help="Milliseconds that a wait may be shorter or longer."),
        click.option(
            "--slow",
            type=(float, float),
            default=(0.0, 0.0),
            help="Share of the waits (0 to 1) and milliseconds that those are longer.",
        ),
        click.option("--drift", default=0.0, help="Share by which each answer's waits are longer."),
        click.option("--schedule-seed", default=0, help="Decides jitter and slow waits."),
    )

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def schedule_of(options: dict[str, Any]) -> Schedule:
    """The schedule of a command's options. Raises click.UsageError for one that cannot be."""
    share, longer_ms = options["slow"]
    try:
        return Schedule(
            options["ttft_ms"] / 1e3,
            options["itl_ms"] / 1e3,
            options["tokens"],
            tuple((index, ms / 1e3) for index, ms in options["stall"]),
            options["jitter_ms"] / 1e3,
            (share, longer_ms / 1e3),
            options["drift"],
            options["schedule_seed"],
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
