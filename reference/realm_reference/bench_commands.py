"""`realm bench`: what the parts of the reference cost, measured on the machine at hand."""

from __future__ import annotations

import json
from pathlib import Path

import click

from realm_reference.command_options import CannotStart, limit_threads


@click.group()
def bench() -> None:
    """Measure what the parts cost on this machine."""


@bench.command()
@click.option(
    "--model", default="smollm2-135m", show_default=True, help="Compare with a token of this model."
)
@click.option("--no-model", is_flag=True, help="Compare with no model.")
@click.option("--repeat", type=click.IntRange(1), default=9, show_default=True, help="Rounds; medians count.")
@click.option("--tokens", type=click.IntRange(2), default=64, show_default=True, help="Tokens a generation.")
@click.option("--calls", type=click.IntRange(1), default=2_000, show_default=True, help="Host calls a round.")
@click.option(
    "--sandboxes", type=click.IntRange(2), default=1_000, show_default=True, help="Sandboxes alive at once."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=7, show_default=True, help="Of logits and draws."
)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Threads of a matrix product.",
)
@click.option(
    "--json", "output", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there."
)
def abi(
    *,
    model: str,
    no_model: bool,
    repeat: int,
    tokens: int,
    calls: int,
    sandboxes: int,
    seed: int,
    threads: int,
    output: Path | None,
) -> None:
    """Measure the sandbox: a host call, a token's orchestration in v1 and v2, a tenant's memory and start.

    A token goes through a model that computes nothing, so that its time is the orchestration's; the same loop
    without a sandbox and a token of a real model are measured beside it, in turns.
    """
    limit_threads(threads)
    from realm_reference.bench.abi import Settings, run, table
    from realm_reference.model.errors import ModelError
    from realm_reference.model.model import load_model

    try:
        transformer = None if no_model else load_model(model).transformer
    except ModelError as error:
        raise CannotStart(f"{error} (or compare with none: --no-model)") from None
    settings = Settings(repeat=repeat, tokens=tokens, calls=calls, sandboxes=sandboxes, seed=seed)
    result = run(settings, transformer, None if no_model else Path(model).stem)
    click.echo("\n".join(table(result)))
    if output is not None:
        try:
            output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise CannotStart(f"{output} cannot be written: {error.strerror}; choose another file") from None
