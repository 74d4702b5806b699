"""`python -m realm_mocks.server`: a MockServer in a process of its own."""

from __future__ import annotations

import threading

import click

from realm_mocks.server import DEFECTS, HABITS, MockServer, Schedule


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, show_default=True, help="0 takes a free port.")
@click.option("--ttft-ms", default=0.0, show_default=True, help="Milliseconds to the first token.")
@click.option("--itl-ms", default=0.0, show_default=True, help="Milliseconds between tokens.")
@click.option("--tokens", type=int, help="Tokens of an answer; as the scripted model likes when not given.")
@click.option("--stall", type=(int, float), multiple=True, help="Token index and milliseconds it comes late.")
@click.option("--slots", default=64, show_default=True, help="Answers generated at a time.")
@click.option("--api-key", help="Ask for this key; KEY-other and KEY-limited are other tenants'.")
@click.option("--defect", type=click.Choice(sorted(DEFECTS)), multiple=True, help="Plant a defect.")
@click.option("--habit", type=click.Choice(sorted(HABITS)), multiple=True, help="Take on an innocent habit.")
def main(
    host: str,
    port: int,
    ttft_ms: float,
    itl_ms: float,
    tokens: int | None,
    stall: tuple[tuple[int, float], ...],
    slots: int,
    api_key: str | None,
    defect: tuple[str, ...],
    habit: tuple[str, ...],
) -> None:
    """Run an OpenAI chat server with an exact token schedule until interrupted. Prints its URL first."""
    timed = bool(ttft_ms or itl_ms or tokens or stall)
    stalls = tuple((index, ms / 1e3) for index, ms in stall)
    schedule = Schedule(ttft_ms / 1e3, itl_ms / 1e3, tokens, stalls) if timed else None
    server = MockServer(
        schedule, defects=defect, habits=habit, api_key=api_key, host=host, port=port, slots=slots
    )
    try:
        server.start()
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from None
    click.echo(server.url)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        server.stop()


if __name__ == "__main__":
    main()
