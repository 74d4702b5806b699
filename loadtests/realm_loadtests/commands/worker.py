"""`realm load worker`: this machine's part of a load test that another machine leads."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import click

from realm_loadtests.records.records import RECORDS_FILE
from realm_loadtests.runs.launch import LOCUSTFILE, MASTER_PORT
from realm_loadtests.settings import JOINED_VARIABLE, SETTINGS_VARIABLE


def parse_address(text: str) -> tuple[str, int]:
    """`HOST` or `HOST:PORT`, an IPv6 address in brackets."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]\s]+)(?::(\d{1,5}))?", text)
    port = int(match[2] or MASTER_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise click.BadParameter(f"{text!r} is no address; write HOST or HOST:PORT")
    return match[1].strip("[]"), port


@click.command("worker")
@click.argument("master", type=parse_address, metavar="HOST[:PORT]")
@click.option(
    "--processes", default=1, type=click.IntRange(1, 64), show_default=True, help="Workers to be here."
)
@click.option(
    "--out",
    default="realm-load-worker",
    type=click.Path(file_okay=False, path_type=Path),
    show_default=True,
    help="Folder for this worker's copy of what it recorded; an earlier one is replaced.",
)
@click.option(
    "--wait", "wait_s", default=120, type=click.IntRange(1), show_default=True, help="Seconds for the master."
)
def worker_command(master: tuple[str, int], processes: int, out: Path, wait_s: int) -> None:
    """Take part in the load test of `realm load URL --workers N` on HOST, until it ends.

    The master tells everything but keys: REALM_API_KEY is this machine's own, and files that the test names
    (tenants, a trace) have to be here under the same names.

    Exit status: 0 the test ended, 1 the worker failed, 2 wrong usage or the master is not there.
    """
    host, port = master
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / RECORDS_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise click.UsageError(f"{out} cannot be used: {error.strerror}") from None
    if not _reached(host, port, wait_s):
        click.echo(
            f"realm load worker: nobody listens at {host}:{port}; start realm load URL --workers N there",
            err=True,
        )
        sys.exit(2)
    environment = {name: value for name, value in os.environ.items() if name != SETTINGS_VARIABLE}
    environment[JOINED_VARIABLE] = str(out.resolve())
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--worker", "--loglevel", "WARNING"]
    command += ["--master-host", host, "--master-port", str(port)]
    if processes > 1:
        command += ["--processes", str(processes)]
    sys.exit(subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode)


def _reached(host: str, port: int, wait_s: float) -> bool:
    """Whether somebody listens there, asked again for a while: the machines of a test start in any order."""
    limit = time.monotonic() + wait_s
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            if time.monotonic() > limit:
                return False
            time.sleep(0.5)
        else:
            return True
