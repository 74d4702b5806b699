"""`realm deploy`: from a deployment file to running servers, or to the manifests of a platform."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from realm_reference.command_options import CannotStart, FiniteRange

if TYPE_CHECKING:
    from realm_reference.deploy.deployment import Deployment

# Deployments are imported inside the commands: `realm --help` should wait neither for YAML nor for
# supervisord.

NOT_READY = 1
FILE = click.argument("file", type=click.Path(path_type=Path))
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print what would change, and change nothing.")
OUTPUT = click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Folder to write into.  [default: NAME-TARGET]"
)
TIMEOUT = click.option(
    "--timeout",
    type=FiniteRange(0, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds that a replica has to become ready.",
)


@contextmanager
def failures() -> Iterator[None]:
    """Failures of a deployment as one line and an exit code."""
    from realm_reference.deploy.errors import DeployError, NotReady

    try:
        yield
    except NotReady as error:
        click.echo(f"Error: {error}", err=True)
        click.get_current_context().exit(NOT_READY)
    except DeployError as error:
        raise CannotStart(str(error)) from None
    except ModuleNotFoundError as error:  # supervisord is for Unix alone
        raise CannotStart(f"this needs {error.name}: pip install 'realm-harness[reference]'") from None


def read(file: Path) -> Deployment:
    """A deployment file, and that a server could use the keys and limits that it names; DeployError."""
    from realm_reference.deploy.deployment import load
    from realm_reference.deploy.errors import DeployError
    from realm_reference.tenants.keys import KeyFileError, load_keys
    from realm_reference.tenants.policy import PolicyError, load_policies

    deployment = load(file)
    try:
        if deployment.keys is not None:
            load_keys(deployment.keys)
        quota = deployment.tenants is not None and load_policies(deployment.tenants).have_quota
        if quota and deployment.ledger is None:
            raise PolicyError("tokens_per_day needs the setting 'ledger', which remembers over restarts")
    except (KeyFileError, PolicyError) as error:
        raise DeployError(f"{file}: {error}") from None
    return deployment


def report(line: str) -> None:
    """A step of a rollout; stdout is for the result."""
    click.echo(line, err=True)


@click.group()
def deploy() -> None:
    """Deploy servers from one file (TOML or YAML), here or as manifests for a platform.

    Exit codes: 0 deployed; 1 the new replicas did not become ready, and what ran before runs on; 2 wrong
    usage, or something is not there.
    """


@deploy.command()
@FILE
@DRY_RUN
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Wait until all replicas are ready. An update always waits.",
)
@click.option("--restart", is_flag=True, help="Replace the replicas also when nothing has changed.")
@TIMEOUT
def local(file: Path, dry_run: bool, wait: bool, restart: bool, timeout: float) -> None:
    """Run replicas as processes of this machine, or update those that run without losing a request."""
    with failures():
        from realm_reference.deploy.local.target import LocalTarget, plan

        deployment = read(file)
        wanted, target = plan(deployment), LocalTarget(deployment.name)
        preview = target.preview(wanted)
        if dry_run:
            click.echo(preview or "Nothing would change.\n", nl=False)
        elif not preview and not restart:
            click.echo(f"{deployment.name}: nothing has changed; --restart replaces the replicas anyway.")
        else:
            revision = target.deploy(wanted, wait=wait, ready_seconds=timeout, report=report)
            said = "is ready" if wait else "was started"
            where = f"http://{deployment.host}:{deployment.port}"
            click.echo(f"{deployment.name}: revision {revision} {said} at {where}")


@deploy.command()
@click.argument("name")
@TIMEOUT
def rollback(name: str, timeout: float) -> None:
    """Put the revision before the current one of a local deployment back, without losing a request."""
    with failures():
        from realm_reference.deploy.local.target import LocalTarget

        revision = LocalTarget(name).roll_back(ready_seconds=timeout, report=report)
        click.echo(f"{name}: revision {revision} is ready")


@deploy.command()
@click.argument("name")
def stop(name: str) -> None:
    """End a local deployment: running requests may finish, new ones find no server."""
    with failures():
        from realm_reference.deploy.local.target import LocalTarget

        LocalTarget(name).stop()
        click.echo(f"{name}: stopped")


@deploy.command()
@FILE
@OUTPUT
@DRY_RUN
def compose(file: Path, output: Path | None, dry_run: bool) -> None:
    """Write a Docker Compose project: replicas behind HAProxy, and the Dockerfile of their image."""
    _render("compose", file, output, dry_run, "docker compose up --build --detach --wait")


@deploy.command()
@FILE
@OUTPUT
@DRY_RUN
def systemd(file: Path, output: Path | None, dry_run: bool) -> None:
    """Write systemd units: one socket, a template service for the replicas, a target for all of it."""
    _render("systemd", file, output, dry_run, "copy them to /etc/systemd/system; systemctl enable --now")


@deploy.command()
@FILE
@OUTPUT
@DRY_RUN
def kubernetes(file: Path, output: Path | None, dry_run: bool) -> None:
    """Write a Kustomize folder: Deployment, Service, disruption budget, autoscaler if asked for."""
    _render("kubernetes", file, output, dry_run, "kubectl apply --kustomize")


def _render(target: str, file: Path, output: Path | None, dry_run: bool, then: str) -> None:
    with failures():
        from realm_reference.deploy import files
        from realm_reference.deploy.targets import RENDERERS

        deployment = read(file)
        rendered = RENDERERS[target](deployment)
        folder = output or Path(f"{deployment.name}-{target}")
        if dry_run:
            click.echo(files.changes(folder, rendered) or "Nothing would change.\n", nl=False)
            return
        written = files.write(folder, rendered)
        click.echo(f"{folder}: wrote {', '.join(written)}" if written else f"{folder}: nothing has changed")
        click.echo(f"Then: {then}", err=True)
