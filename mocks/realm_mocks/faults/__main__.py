"""`python -m realm_mocks.faults URL`: a fault proxy in a process of its own."""

from __future__ import annotations

import json
import threading

import click

from realm_mocks.faults import KINDS, Fault, FaultError, FaultProxy


def _faults(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> list[Fault]:
    try:
        return [Fault.parse(text) for text in texts]
    except FaultError as error:
        raise click.BadParameter(str(error)) from None


def _epilog() -> str:
    lines = (f"{kind}{':' + counts if counts else ''}, {does}" for kind, (counts, does) in KINDS.items())
    return f"Faults: {'; '.join(lines)}."


@click.command(epilog=_epilog())
@click.argument("target")
@click.option("--port", default=0, show_default=True, help="0 takes a free port.")
@click.option("--seed", default=0, show_default=True, help="Decides which connection gets which fault.")
@click.option("--fault", "faults", multiple=True, callback=_faults, help="KIND[:VALUE][@SHARE%]; repeatable.")
def main(target: str, port: int, seed: int, faults: list[Fault]) -> None:
    """Pass connections on to TARGET, some with a fault. Prints its URL, and in the end how many had which."""
    try:
        proxy = FaultProxy(target, faults, seed=seed, port=port)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot listen on port {port}: {error.strerror}") from None
    with proxy:
        click.echo(proxy.url)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            click.echo(json.dumps(dict(proxy.counts)))


if __name__ == "__main__":
    main()
