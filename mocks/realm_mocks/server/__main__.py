"""`python -m realm_mocks.server`: a MockServer in a process of its own."""

from __future__ import annotations

import threading
from typing import Any

import click

from realm_mocks.server import DEFECTS, HABITS, MockServer, Schedule
from realm_mocks.server.schedule_options import schedule_of, schedule_options


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, show_default=True, help="0 takes a free port.")
@schedule_options(ttft_ms=0.0, itl_ms=0.0, tokens=None)
@click.option("--slots", default=64, show_default=True, help="Answers generated at a time.")
@click.option("--api-key", help="Ask for this key; KEY-other and KEY-limited are other tenants'.")
@click.option("--defect", type=click.Choice(sorted(DEFECTS)), multiple=True, help="Plant a defect.")
@click.option("--habit", type=click.Choice(sorted(HABITS)), multiple=True, help="Take on an innocent habit.")
def main(
    host: str,
    port: int,
    slots: int,
    api_key: str | None,
    defect: tuple[str, ...],
    habit: tuple[str, ...],
    **options: Any,
) -> None:
    """Run an OpenAI chat server with an exact token schedule until interrupted. Prints its URL first."""
    schedule = schedule_of(options)
    timed = schedule if schedule != Schedule() else None  # without times a defect's own may stand in for it
    server = MockServer(
        timed, defects=defect, habits=habit, api_key=api_key, host=host, port=port, slots=slots
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
