"""`realm bench peers`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click

from realm_reference.command_options import (
    CannotStart,
    figures_option,
    limit_threads,
    model_option,
    write_figures,
)

_NEEDS = "llama-cpp-python"
_SERVER_NEEDS = "xllamacpp"


@click.command()
@model_option
@click.option(
    "--peer-python",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"A Python that has {_NEEDS} and, for the HTTP row, {_SERVER_NEEDS}.",
)
@click.option("--threads", type=click.IntRange(1, 256), help="Of each side.  [default: one a processor]")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="Medians count.")
@click.option("--http-rounds", type=click.IntRange(1), default=3, show_default=True, help="Of the servers.")
@click.option("--no-http", is_flag=True, help="Leave the servers out.")
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True, help="Of the prompts.")
@figures_option
def peers(
    *,
    model: str,
    peer_python: Path,
    threads: int | None,
    rounds: int,
    http_rounds: int,
    no_http: bool,
    seed: int,
    output: Path | None,
) -> None:
    """Compare the compiled path with llama.cpp: the same file, the same threads, in turns.

    Each goal's line says by how much it is reached or missed.
    """
    limit_threads(1)
    from realm_reference.bench.fairness import BenchError
    from realm_reference.bench.peers import Settings, run, table
    from realm_reference.bench.sides import SideFailed
    from realm_reference.model.compute import available_threads, jit_fault
    from realm_reference.model.errors import ModelError

    if fault := jit_fault():
        raise CannotStart(f"the compiled path cannot run here: {fault}")
    _check_peer(peer_python, "llama_cpp", _NEEDS, "")
    if not no_http:
        _check_peer(peer_python, "xllamacpp", _SERVER_NEEDS, ", or leave the servers out: --no-http")
    settings = Settings(
        model,
        peer_python.absolute(),
        threads or available_threads(),
        rounds,
        0 if no_http else http_rounds,
        seed=seed,
    )
    try:
        result = run(settings)
    except (ModelError, SideFailed, BenchError) as error:
        raise CannotStart(str(error)) from None
    click.echo("\n".join(table(result)))
    write_figures(result, output)


def _check_peer(python: Path, module: str, package: str, otherwise: str) -> None:
    try:
        done = subprocess.run([str(python), "-c", f"import {module}"], capture_output=True, check=False)
    except OSError as error:
        raise CannotStart(f"--peer-python {python} cannot be run: {error.strerror}") from None
    if done.returncode:
        raise CannotStart(
            f"--peer-python {python} has no {package}; run: {python} -m pip install {package}{otherwise}"
        )
