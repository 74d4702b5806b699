"""`realm bench`: what the parts of the reference cost, measured on the machine at hand."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from realm_reference.command_options import (
    CannotStart,
    FiniteRange,
    chosen_compute,
    compute_options,
    figures_option,
    limit_threads,
    model_option,
    write_figures,
)


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
@figures_option
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
    write_figures(result, output)


@bench.command()
@model_option
@click.option(
    "--flood", type=click.IntRange(1), default=16, show_default=True, help="The flood's requests at a time."
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="With and without it.")
@click.option(
    "--requests", type=click.IntRange(1), default=20, show_default=True, help="The light tenant's, a round."
)
@click.option("--words", type=click.IntRange(1), default=40, show_default=True, help="Words of a prompt.")
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True, help="Of prompts and pauses.")
@figures_option
@compute_options
def fairness(
    *,
    model: str,
    flood: int,
    rounds: int,
    requests: int,
    words: int,
    seed: int,
    output: Path | None,
    **compute: Any,
) -> None:
    """Measure what a flood of one tenant's does to another's time to first token.

    Starts a server of its own with two tenants. The ratio of the light tenant's p99 with the flood to that
    without it is the figure that counts; the flooding tenant's own times show how long the line is.
    """
    from realm_reference.bench.fairness import BenchError, Settings, run, table

    settings = Settings(model, flood, rounds, requests, words, seed)
    flags = [word for name, value in compute.items() if value for word in (f"--{name}", str(value))]
    try:
        result = asyncio.run(run(settings, flags))
    except BenchError as error:
        raise CannotStart(str(error)) from None
    click.echo("\n".join(table(result)))
    write_figures(result, output)


@bench.command()
@compute_options
@model_option
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1, 256),
    multiple=True,
    default=(1, 8, 32),
    show_default=True,
    help="Sequences at once; may be given several times.",
)
@click.option("--tokens", type=click.IntRange(2), default=48, show_default=True, help="Tokens a generation.")
@click.option("--repeat", type=click.IntRange(1), default=5, show_default=True, help="Rounds; medians count.")
@click.option(
    "--tenants", type=click.IntRange(1, 256), default=64, show_default=True, help="As many as guests."
)
@click.option(
    "--sessions", type=click.IntRange(0), default=0, show_default=True, help="Random sessions, to find leaks."
)
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True, help="Of the random sessions.")
@figures_option
def engine(
    *,
    model: str,
    batches: tuple[int, ...],
    tokens: int,
    repeat: int,
    tenants: int,
    sessions: int,
    seed: int,
    output: Path | None,
    **compute: Any,
) -> None:
    """Measure the engine: what batching, guests and many tenants cost, beside the model alone.

    The same tokens go through the model alone, through the engine without guests, and with a guest for each
    sequence, in turns. Then as many guests run as one tenant's and as a tenant's each.
    """
    chosen = chosen_compute(compute)
    from realm_reference.bench.engine import Settings, run, table
    from realm_reference.model.errors import ModelError
    from realm_reference.model.model import load_model

    try:
        loaded = load_model(model, chosen)
    except ModelError as error:
        raise CannotStart(str(error)) from None
    result = run(Settings(batches, tokens, repeat, tenants, sessions, seed), loaded)
    click.echo("\n".join(table(result)))
    write_figures(result, output)


@bench.command()
@compute_options
@model_option
@click.option("--draft-model", metavar="MODEL", help="What guesses, as for realm serve.")
@click.option("--draft-tokens", type=click.IntRange(1, 16), default=3, show_default=True, help="At a time.")
@click.option("--tokens", type=click.IntRange(1), default=10_000, show_default=True, help="In all.")
@click.option("--length", type=click.IntRange(1), default=128, show_default=True, help="Tokens of a text.")
@click.option(
    "--temperature",
    "temperatures",
    type=FiniteRange(0, 2),
    multiple=True,
    default=(0.0, 0.8),
    show_default=True,
    help="As many kinds of sampling; may be given several times.",
)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The first text.")
@figures_option
def drafts(
    *,
    model: str,
    draft_model: str | None,
    draft_tokens: int,
    tokens: int,
    length: int,
    temperatures: tuple[float, ...],
    first: int,
    output: Path | None,
    **compute: Any,
) -> None:
    """Hold speculation to plain decoding: the same tokens, bit for bit, and how much sooner they come.

    Every text is generated with guesses and without, in turns. Exit code 1 if any of them differs.
    """
    chosen = chosen_compute(compute)
    from realm_reference.assembly import AssemblyError, Draft, orchestrator
    from realm_reference.bench.drafts import Settings, as_json, run, table

    settings = Settings(tokens, length, draft_tokens, temperatures, first)
    try:
        with orchestrator(model, "v2", compute=chosen, draft=Draft(draft_model)) as (engine, guests):
            rows = asyncio.run(run(settings, engine, guests))
    except AssemblyError as error:
        raise CannotStart(str(error)) from None
    click.echo("\n".join(table(settings, rows)))
    write_figures(as_json(settings, rows), output)
    if any(row.differing for row in rows):
        raise SystemExit(1)


@bench.command()
@compute_options
@model_option
@click.option("--seconds", type=FiniteRange(0), default=60, show_default=True, help="Rounds for so long.")
@click.option(
    "--beside", type=click.IntRange(2, 256), default=16, show_default=True, help="Requests at once, at most."
)
@click.option(
    "--tokens", type=click.IntRange(1), default=48, show_default=True, help="Of a request, at most."
)
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True, help="Of all that is random.")
@figures_option
def campaign(
    *, model: str, seconds: float, beside: int, tokens: int, seed: int, output: Path | None, **compute: Any
) -> None:
    """Hold requests beside each other to the same requests alone: the same tokens, bit for bit.

    They come and leave when they like, of several tenants, with adapters and without, guessing and not. Exit
    code 1 if any answer differs, or if pages stay behind.
    """
    chosen = chosen_compute(compute)
    from realm_reference.assembly import AssemblyError, Draft, orchestrator
    from realm_reference.bench.campaign import Settings, as_json, run, table
    from realm_reference.model.drawn_adapters import drawn_adapter

    names = ("one", "two")
    settings = Settings(seconds, beside, tokens, seed=seed, adapters=names)
    try:
        with orchestrator(model, "v2", compute=chosen, draft=Draft(), max_running=beside) as (engine, guests):
            for number, name in enumerate(names):
                engine.adapters.load(drawn_adapter(name, f"seed:{number}", guests.model.config))
            outcome = asyncio.run(run(settings, engine, guests))
    except AssemblyError as error:
        raise CannotStart(str(error)) from None
    click.echo("\n".join(table(outcome)))
    write_figures(as_json(settings, outcome), output)
    if outcome.differing or outcome.pages_held:
        raise SystemExit(1)
