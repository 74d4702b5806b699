"""What `realm serve` and `realm run` have in common: their model options and how they refuse to start."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

DEFAULT_MODEL = "smollm2-135m"
F = TypeVar("F", bound=Callable[..., Any])


class CannotStart(click.ClickException):
    """One line on stderr and exit code 2: the arguments or the environment do not let it start."""

    exit_code = 2


class FiniteRange(click.FloatRange):
    """A number in a range; not nan, which is in every range and in none, nor one without an end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or click's complaint."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def model_options(command: F) -> F:
    """The options that both commands have."""
    for option in (
        click.option(
            "--threads",
            type=click.IntRange(1, 256),
            default=1,
            show_default=True,
            help="Threads of a matrix product; more than one pays only where nothing else runs.",
        ),
        click.option("--gpu", is_flag=True, help="Compute on a GPU through CuPy."),
        click.option(
            "--wasm",
            default="v2",
            show_default=True,
            help="Guest module: v1, v2 or the path of a .wasm file.",
        ),
        click.option(
            "--model",
            default=DEFAULT_MODEL,
            show_default=True,
            help="A known model (realm models) or a GGUF file.",
        ),
    ):
        command = option(command)
    return command


def limit_threads(count: int) -> None:
    """Give the matrix library `count` threads; it asks the environment once, when NumPy is first imported.

    The default is one. OpenBLAS's threads wait for each other by yielding, so with any neighbour on the
    cores (a load generator is one) a step takes seven times as long with two threads as with one; alone,
    the second thread makes prefill 1.6 times and decode 1.05 times as fast.
    """
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ[variable] = str(count)


def check_gpu(wanted: bool) -> None:
    """A flag that cannot be honoured is refused, never ignored."""
    if not wanted:
        return
    if importlib.util.find_spec("cupy") is None:
        raise CannotStart("--gpu needs CuPy, which is not installed: pip install 'realm-harness[cuda]'")
    raise CannotStart("--gpu: the server does not run on CuPy yet; leave the flag out")
