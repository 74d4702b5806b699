"""`realm conform --host`: the host started with each probe, and the cases for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

from realm_harness.case import Case, Suite, load_cases
from realm_harness.hostsuite.grid import grid_cases
from realm_harness.hostsuite.host import HostUnavailable, Launcher
from realm_harness.hostsuite.local import PREFIX, local_launcher
from realm_harness.hostsuite.served import CommandLauncher
from realm_harness.hostsuite.subject import HostSubject, Settings

HOST = Suite(
    "realm_harness.hostsuite.chapters",
    ("effect", "request", "isolate", "load", "contain"),
)
"""The chapters in the order in which they run: what may hurt a host comes last."""


def launcher_of(
    host: str, *, api_key: str | None = None, model: str | None = None, timeout: float | None = None
) -> Launcher:
    """How `--host` says that a host is started. HostUnavailable if it says nothing of use."""
    if host.startswith(PREFIX):
        return local_launcher(host, timeout) if timeout else local_launcher(host)
    if "{module}" not in host or "{port}" not in host:
        raise HostUnavailable(
            "the host's command has no {module} and {port}; name where the module's path and the port go,"
            " or give python:MODULE:FACTORY"
        )
    return CommandLauncher(host, api_key, model, timeout)


@contextmanager
def open_host(launcher: Launcher, settings: Settings | None = None) -> Iterator[HostSubject]:
    """The host, running both probes if it takes both. HostUnavailable if it runs none."""
    subject = HostSubject(launcher, settings or Settings())
    try:
        subject.open()
        yield subject
    finally:
        subject.close()


def host_cases(globs: Iterable[str] = ()) -> list[Case]:
    """All cases in the order in which they run, or those whose id matches one of `globs`."""
    cases = [*grid_cases(), *load_cases(suite=HOST)]
    wanted = list(globs)
    return [case for case in cases if not wanted or any(fnmatchcase(case.id, glob) for glob in wanted)]
