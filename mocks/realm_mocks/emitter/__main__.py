"""`python -m realm_mocks.emitter`: an emitter in a process of its own."""

from __future__ import annotations

import gc
from typing import Any

import click

from realm_mocks.emitter import Emitter
from realm_mocks.server.schedule_options import schedule_of, schedule_options


@click.command()
@click.option("--port", default=0, show_default=True, help="0 takes a free port.")
@schedule_options(ttft_ms=20.0, itl_ms=5.0, tokens=32)
def main(port: int, **options: Any) -> None:
    """Emit scheduled streams until interrupted. Prints its URL first."""
    schedule = schedule_of(options)
    try:
        emitter = Emitter(schedule, port=port)
    except OSError as error:
        raise click.ClickException(f"cannot listen on port {port}: {error.strerror}") from None
    click.echo(emitter.url)
    gc.disable()  # a collection would be a stall that no schedule has
    try:
        emitter.run()
    except KeyboardInterrupt:
        emitter.stop()


if __name__ == "__main__":
    main()
