"""What the commands that run a model have in common: their options and how they refuse to start."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from realm_reference.model.compute import Compute

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


_COMPUTE_OPTIONS: Final = (
    click.option(
        "--threads",
        type=click.IntRange(1, 256),
        help="Threads that compute.  [default: one a processor; one on NumPy]",
    ),
    click.option(
        "--precision",
        type=click.Choice(["exact", "int8"]),
        default="exact",
        show_default=True,
        help="Of activations: float32, or eight bits, which is faster and a little off.",
    ),
    click.option(
        "--compute",
        type=click.Choice(["auto", "jit", "numpy"]),
        default="auto",
        show_default=True,
        envvar="REALM_COMPUTE",
        help="Compiled kernels (jit) or plain NumPy; auto: compiled, where Numba and the processor can.",
    ),
)


model_option: Final = click.option(
    "--model", default=DEFAULT_MODEL, show_default=True, help="A known model (realm models) or a GGUF file."
)
figures_option: Final = click.option(
    "--json", "output", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there."
)


def compute_options(command: F) -> F:
    """What runs the model: --compute, --precision and --threads."""
    for option in _COMPUTE_OPTIONS:
        command = option(command)
    return command


def chosen_compute(options: Mapping[str, Any]) -> Compute:
    """What those options ask for, as this machine can; raises CannotStart if it cannot.

    NumPy may be imported after this only: it asks for its threads once.
    """
    limit_threads(options["threads"] or 1)
    from realm_reference.model.compute import ComputeError, choose_compute, choose_gpu

    try:
        if options.get("gpu"):
            return choose_gpu(options["compute"], options["precision"])
        return choose_compute(options["compute"], options["precision"], options["threads"])
    except ComputeError as error:
        raise CannotStart(str(error)) from None


def draft_options(command: F) -> F:
    """Speculation: --draft-tokens and --draft-model; `check_drafts` looks at them."""
    for option in (
        click.option(
            "--draft-model",
            metavar="MODEL",
            help="Guess with this known model or GGUF file of the same vocabulary, or with the model's own"
            " first layers (layers:N), where the text itself has nothing to guess from.",
        ),
        click.option(
            "--draft-tokens",
            type=click.IntRange(0, 16),
            default=0,
            show_default=True,
            help="Speculation: tokens that a guest may guess ahead at a time; 0 is off."
            " No answer changes by it.",
        ),
    ):
        command = option(command)
    return command


def check_drafts(options: Mapping[str, Any]) -> None:
    """Raises click's complaint about a draft model without leave to guess."""
    if options["draft_model"] is not None and not options["draft_tokens"]:
        raise click.UsageError("--draft-model needs --draft-tokens N")


def model_options(command: F) -> F:
    """The options of all commands that run a model."""
    for option in (
        *_COMPUTE_OPTIONS,
        click.option("--gpu", is_flag=True, help="Compute on a GPU through CuPy."),
        click.option(
            "--wasm",
            default="v2",
            show_default=True,
            help="Guest module: v1, v2 or the path of a .wasm file.",
        ),
        model_option,
    ):
        command = option(command)
    return command


def write_figures(result: Mapping[str, Any], output: Path | None) -> None:
    """Write what `figures_option` asks for; raises CannotStart if the file cannot be written."""
    if output is None:
        return
    try:
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CannotStart(f"{output} cannot be written: {error.strerror}; choose another file") from None


def limit_threads(count: int) -> None:
    """Give the matrix library `count` threads; it asks the environment once, when NumPy is first imported.

    One, if nothing is said. OpenBLAS's threads wait for each other by yielding, so with any neighbour on the
    cores (a load generator is one) a step takes seven times as long with two threads as with one; alone,
    the second thread makes prefill 1.6 times and decode 1.05 times as fast.
    """
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ[variable] = str(count)


def check_gpu(wanted: bool) -> None:
    """Refuse the flag where CuPy is not installed, before anything is read; `chosen_compute` looks for a
    device.
    """
    if wanted and importlib.util.find_spec("cupy") is None:
        raise CannotStart("--gpu needs CuPy, which is not installed: pip install 'realm-harness[cuda]'")
