"""`python -m realm_mocks.emitter`: an emitter in a process of its own."""

from __future__ import annotations

import gc

import click

from realm_mocks.emitter import Emitter
from realm_mocks.server.schedule import Schedule


@click.command()
@click.option("--port", default=0, show_default=True, help="0 takes a free port.")
@click.option("--ttft-ms", default=20.0, show_default=True, help="Milliseconds to the first token.")
@click.option("--itl-ms", default=5.0, show_default=True, help="Milliseconds between tokens.")
@click.option("--tokens", default=32, show_default=True, type=click.IntRange(1), help="Tokens of an answer.")
@click.option("--stall", type=(int, float), multiple=True, help="Token index and milliseconds it comes late.")
def main(port: int, ttft_ms: float, itl_ms: float, tokens: int, stall: tuple[tuple[int, float], ...]) -> None:
    """Emit scheduled streams until interrupted. Prints its URL first."""
    stalls = tuple((index, ms / 1e3) for index, ms in stall)
    try:
        emitter = Emitter(Schedule(ttft_ms / 1e3, itl_ms / 1e3, tokens, stalls), port=port)
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
