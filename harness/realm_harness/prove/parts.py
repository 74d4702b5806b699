"""The two measuring parts, each a `realm` command of its own whose results come back as a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from realm_harness.prove.options import LOAD_MAX_TOKENS, Options
from realm_harness.prove.processes import Child, StillRunning, realm_command
from realm_harness.prove.progress import Progress
from realm_harness.report import (
    CONFORMANCE_SCHEMA,
    LOAD_SCHEMA,
    BrokenResults,
    Conformance,
    Load,
    conformance_of,
    load_of,
    read_json,
)
from realm_harness.report.text import one_line, redact

FETCH_SECONDS = 1_800.0
CONFORM_SECONDS = 3_600.0
LOAD_EXTRA_SECONDS = 600.0

Results = TypeVar("Results", Conformance, Load)


class PartFailed(Exception):
    """A part gave no results; the message is one line."""


@dataclass(frozen=True)
class Part(Generic[Results]):
    """A part's results, and the contents of its file as they go into report.json."""

    results: Results
    raw: dict[str, Any]


def fetch_model(options: Options, progress: Progress) -> None:
    """Bring the reference's model into the cache."""
    _run(
        "fetching the model",
        ["models", "fetch", options.served_model],
        FETCH_SECONDS,
        (0,),
        options,
        progress,
    )


def conformance(options: Options, url: str, work: Path, progress: Progress) -> Part[Conformance]:
    """Run the conformance cases against `url`."""
    file = work / "conformance.json"
    command = ["conform", url, "--json", str(file), "--level", options.level, *_model(options)]
    _run("the conformance run", command, CONFORM_SECONDS, (0, 1), options, progress)
    return _read(file, CONFORMANCE_SCHEMA, conformance_of, options)


def load(options: Options, url: str, work: Path, progress: Progress) -> Part[Load]:
    """Run the load test against `url`."""
    command = ["load", url, "--users", str(options.users), "--duration", f"{options.duration_s}s"]
    command += ["--max-tokens", str(LOAD_MAX_TOKENS), "--out", str(work / "load"), *_model(options)]
    _run("the load test", command, options.duration_s + LOAD_EXTRA_SECONDS, (0, 1), options, progress)
    return _read(work / "load" / "load.json", LOAD_SCHEMA, load_of, options)


def _model(options: Options) -> list[str]:
    return ["--model", options.model] if options.target is not None and options.model else []


def _run(
    what: str,
    arguments: list[str],
    seconds: float,
    expected: tuple[int, ...],
    options: Options,
    progress: Progress,
) -> None:
    """Run a `realm` command to its end, showing its output; PartFailed unless the exit code is expected."""
    with Child(realm_command(*arguments), options.environment(), progress.line) as child:
        try:
            code = child.wait(seconds, progress.heartbeat)
        except StillRunning as error:
            raise PartFailed(f"{what} was {error}") from None
    if code not in expected:
        last = next((line for line in reversed(child.tail) if line.strip()), "it said nothing")
        said = one_line(redact(last, options.api_key), 300)
        raise PartFailed(f"{what} ended with exit code {code}: {said}")


def _read(
    file: Path, schema: str, parse: Callable[[dict[str, Any]], Results], options: Options
) -> Part[Results]:
    try:
        raw = read_json(file, schema, options.api_key)
        return Part(parse(raw), raw)
    except BrokenResults as error:
        raise PartFailed(f"the results are unusable: {error}") from None
