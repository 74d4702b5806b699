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
    command = ["models", "fetch", options.served_model]
    code, last = _run("fetching the model", command, FETCH_SECONDS, options, progress)
    if code != 0:
        raise PartFailed(f"the model cannot be fetched: {last.removeprefix('Error: ')}")


def conformance(options: Options, url: str, work: Path, progress: Progress) -> Part[Conformance]:
    """Run the conformance cases against `url`."""
    file = work / "conformance.json"
    command = ["conform", url, "--json", str(file), "--level", options.level, *_model(options)]
    ended = _run("the conformance run", command, CONFORM_SECONDS, options, progress)
    return _results("the conformance run", ended, file, CONFORMANCE_SCHEMA, conformance_of, options)


def load(options: Options, url: str, work: Path, progress: Progress) -> Part[Load]:
    """Run the load test against `url`."""
    command = ["load", url, "--users", str(options.users), "--duration", f"{options.duration_s}s"]
    command += ["--max-tokens", str(LOAD_MAX_TOKENS), "--out", str(work / "load"), *_model(options)]
    ended = _run("the load test", command, options.duration_s + LOAD_EXTRA_SECONDS, options, progress)
    return _results("the load test", ended, work / "load" / "load.json", LOAD_SCHEMA, load_of, options)


def _model(options: Options) -> list[str]:
    return ["--model", options.model] if options.target is not None and options.model else []


def _run(
    what: str, arguments: list[str], seconds: float, options: Options, progress: Progress
) -> tuple[int, str]:
    """Run a `realm` command to its end, showing its output: its exit code and its last line."""
    with Child(realm_command(*arguments), options.environment(), progress.line) as child:
        try:
            code = child.wait(seconds, progress.heartbeat)
        except StillRunning as error:
            raise PartFailed(f"{what} was {error}") from None
    last = next((line for line in reversed(child.tail) if line.strip()), "it said nothing")
    return code, one_line(redact(last, options.api_key), 300)


def _results(
    what: str,
    ended: tuple[int, str],
    file: Path,
    schema: str,
    parse: Callable[[dict[str, Any]], Results],
    options: Options,
) -> Part[Results]:
    """The results of a command that ended well (0) or with a verdict against the target (1)."""
    code, last = ended
    if code not in (0, 1) or not file.exists():
        raise PartFailed(f"{what} gave no results (exit code {code}): {last}")
    try:
        raw = read_json(file, schema, options.api_key)
        return Part(parse(raw), raw)
    except BrokenResults as error:
        raise PartFailed(f"the results of {what} are unusable: {error}") from None
