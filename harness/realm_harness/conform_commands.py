"""`realm conform`."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import click

from realm_harness.case import load_cases
from realm_harness.conform import run_cases
from realm_harness.discover import TargetUnavailable, discover
from realm_harness.results import CaseResult, RunResult

MARKS = {
    "ok": "ok",
    "failed": "FAILED",
    "non_strict": "non-strict",
    "unimplemented": "unimpl.",
    "informational": "info",
}
FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


class EnvironmentProblem(click.ClickException):
    """Something outside the run is missing: one line, exit code 2."""

    exit_code = 2


def finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """A callback of an option in a range, for `nan` is in every range, and `inf` in those without an end."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number")
    return value


@click.command()
@click.argument("url", required=False)
@click.option("--websocket", metavar="URL", help="Where its WebSocket is; /ws of the URL when not given.")
@click.option(
    "--guest",
    "guest_file",
    metavar="MODULE.wasm",
    type=click.Path(path_type=Path),
    help="Test a guest module instead of a server, on a host without a model.",
)
@click.option(
    "--host",
    "host_command",
    metavar="COMMAND",
    help="Test a host of guests: the command that starts it, as in 'realm serve --http --http-port {port}"
    " --wasm {module}', or python:MODULE:FACTORY; 'realm abi docs' says what it has to answer.",
)
@click.option("--api-key", envvar="REALM_API_KEY", help="API key of the server (or REALM_API_KEY).")
@click.option("--other-key", envvar="REALM_OTHER_KEY", help="Key of a second tenant, for cases about two.")
@click.option(
    "--limited-key",
    envvar="REALM_LIMITED_KEY",
    help="Key of a tenant with small limits, for those about 429.",
)
@click.option("--model", help="Model to ask for; the first in /v1/models when not given.")
@click.option(
    "--level",
    type=click.Choice(["must", "should"]),
    default="must",
    show_default=True,
    help="Fail on broken MUSTs only, or on SHOULDs too.",
)
@click.option(
    "--case",
    "globs",
    multiple=True,
    metavar="GLOB",
    help="Only cases such as 'CHAT-STREAM-*'; may be repeated.",
)
@click.option("--json", "json_file", type=FILE, help="Write the results file.")
@click.option("--junit", "junit_file", type=FILE, help="Write JUnit XML.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    callback=finite,
    help="Seconds of silence after which the server counts as hanging.",
)
def conform(
    url: str | None,
    websocket: str | None,
    guest_file: Path | None,
    host_command: str | None,
    api_key: str | None,
    other_key: str | None,
    limited_key: str | None,
    model: str | None,
    level: str,
    globs: tuple[str, ...],
    json_file: Path | None,
    junit_file: Path | None,
    timeout: float | None,
) -> None:
    """Hold the OpenAI-compatible server at URL to the chat contract, or a guest or a host to that of the ABI.

    Exit code 0: it keeps it. 1: it broke a clause. 2: it could not be tested.
    """
    if sum(subject is not None for subject in (url, guest_file, host_command)) != 1:
        wanted = "the URL of a server, or --guest MODULE.wasm, or --host COMMAND"
        raise EnvironmentProblem(f"name one thing to test: {wanted}")
    if guest_file is not None:
        run = run_on_guest(guest_file, globs)
    elif host_command is not None:
        run = run_on_host(host_command, api_key, model, timeout, globs)
    else:
        run = run_on_server(str(url), websocket, api_key, (other_key, limited_key), model, timeout, globs)
    show_breaches(run, level)
    if json_file is not None:
        run.write(json_file)
    if junit_file is not None:
        write_junit(run, level, junit_file)
    counts = ", ".join(f"{count} {MARKS[verdict]}" for verdict, count in run.summary.items())
    click.echo(f"\n{counts} in {run.seconds:.1f} s")
    sys.exit(1 if run.broken(level) else 0)


def run_on_host(
    host: str, api_key: str | None, model: str | None, timeout: float | None, globs: tuple[str, ...]
) -> RunResult:
    """The ABI's cases against a host."""
    from realm_harness.hostsuite.conform import host_cases, launcher_of, open_host
    from realm_harness.hostsuite.host import HostUnavailable

    cases = host_cases(globs)
    if not cases:
        raise no_case(globs, "HOST-FORWARD-PTR-001")
    try:
        launcher = launcher_of(host, api_key=api_key, model=model, timeout=timeout)
        with open_host(launcher) as subject:
            click.echo(f"{len(cases)} cases against {subject.facts.name}, {subject.facts.detail}")
            return run_cases(cases, subject, progress=show_progress)
    except HostUnavailable as error:
        raise EnvironmentProblem(str(error)) from None


def run_on_server(
    url: str,
    websocket: str | None,
    api_key: str | None,
    tenants: tuple[str | None, str | None],
    model: str | None,
    timeout: float | None,
    globs: tuple[str, ...],
) -> RunResult:
    """The chat cases against a server; `tenants` are the keys of another tenant and of a limited one."""
    cases = load_cases(globs)
    if not cases:
        raise no_case(globs, "CHAT-STREAM-007")
    try:
        target = discover(url, api_key=api_key, model=model, timeout=timeout, websocket=websocket)
    except (TargetUnavailable, ValueError) as error:
        raise EnvironmentProblem(str(error)) from None
    target.other_key, target.limited_key = tenants
    click.echo(f"{len(cases)} cases against {target.address.url}, model {target.model}")
    return run_cases(cases, target, progress=show_progress)


def run_on_guest(path: Path, globs: tuple[str, ...]) -> RunResult:
    """The guest cases on a module."""
    try:
        from realm_harness.guestsuite.conform import GuestUnusable, guest_cases, open_guest
    except ModuleNotFoundError as missing:
        raise guests_need(missing) from None
    try:
        guest = open_guest(path)
    except GuestUnusable as unusable:
        raise EnvironmentProblem(str(unusable)) from None
    cases = guest_cases(guest, globs)
    if not cases:
        raise no_case(globs, "GUEST-TRACE-001")
    click.echo(f"{len(cases)} cases on {path}, ABI v{guest.version}")
    return run_cases(cases, guest, progress=show_progress)


def guests_need(missing: ModuleNotFoundError) -> EnvironmentProblem:
    """What to say when a guest cannot be run for want of a package."""
    remedy = "install it with: pip install 'realm-harness[guest]'"
    return EnvironmentProblem(f"guests need {missing.name}; {remedy}")


def no_case(globs: tuple[str, ...], example: str) -> EnvironmentProblem:
    """What to say when no case is left."""
    return EnvironmentProblem(f"no case matches {', '.join(globs)}; ids look like {example}")


def show_progress(result: CaseResult) -> None:
    """One line for a finished case."""
    mark = click.style(f"{MARKS[result.verdict]:>10}", fg=_colour(result))
    click.echo(f"{mark}  {result.case.id:<18} {result.case.title}")
    if result.verdict in ("unimplemented", "informational"):
        click.echo(f"{'':12}{'':18}{result.message}")


def _colour(result: CaseResult) -> str | None:
    return {"ok": "green", "failed": "red", "non_strict": "yellow"}.get(result.verdict)


def show_breaches(run: RunResult, level: str) -> None:
    """What was broken, each in a few lines for a stranger."""
    from realm_harness.session import describe

    for result in run.broken("should"):
        click.echo(f"\n{MARKS[result.verdict]}: {describe(result)}")


def write_junit(run: RunResult, level: str, path: Path) -> None:
    """The run as JUnit XML."""
    from realm_harness.report.junit import junit_xml
    from realm_harness.report.model import Run, Subject
    from realm_harness.report.read import conformance_of

    results = json.loads(json.dumps(run.as_json()))
    subject = Subject("target", run.target.name, run.target.detail)
    whole = Run(subject, run.started, run.seconds, level == "should", False, {}, conformance_of(results))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(junit_xml(whole))
