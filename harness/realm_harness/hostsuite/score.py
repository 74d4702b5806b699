"""`realm score --host`: the host suite against a healthy host and others with a planted defect each.

The hosts are MockHosts, or those of a Python file: a table `HOSTS`. So a project that makes a host can score
the suite on its own without a switch in it.
"""

from __future__ import annotations

import functools
import importlib.util
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol, cast

from realm_mocks.host.defects import host_defects
from realm_mocks.host.probed import ProbedMock

from realm_harness.case import Case
from realm_harness.conform import run_cases
from realm_harness.hostsuite.conform import host_cases, open_host
from realm_harness.hostsuite.host import HostUnavailable
from realm_harness.hostsuite.local import Factory, LocalLauncher
from realm_harness.hostsuite.subject import Settings
from realm_harness.results import CaseResult, Told, restored
from realm_harness.score import DefectScore, Planted, Score

SETTINGS = Settings(calls=3000)
PATIENCE = 3.0
"""Seconds after which a planted hang counts as one."""
LONG_PATIENCE = 60.0
"""The same for what is healthy, however busy the machine is."""

SLOW = frozenset(
    (
        *("HOST-ISOLATE-001", "HOST-ISOLATE-003", "HOST-LOAD-014", "HOST-CONTAIN-001"),
        *("HOST-CONTAIN-007", "HOST-CONTAIN-008", "HOST-CONTAIN-011"),
    )
)
"""Cases that take seconds: they run on the healthy host and on the defects that are theirs to catch."""


class PatientMock(ProbedMock):
    """The healthy MockHost on a machine that has other things to do."""

    limits = replace(ProbedMock.limits, guest_seconds=3.0)


class PlantedHost(Planted, Protocol):
    """A host with a defect in it."""

    @property
    def claim(self) -> str:
        """A case, or a glob of some, that has to catch it."""

    @property
    def host(self) -> Factory:
        """Makes the host."""


@dataclass(frozen=True)
class Hosts:
    """Hosts to score the suite on.

    Attributes:
        name: what they are, for a reader.
        healthy: the one without a defect.
        defects: the others, by id.
        unoffered: cases about what these hosts do not offer, and say so.
    """

    name: str
    healthy: Factory
    defects: Mapping[str, PlantedHost]
    unoffered: frozenset[str] = frozenset()


class NoHosts(Exception):
    """There are no such hosts; the message is one line with the remedy."""


@functools.cache
def hosts_of(file: Path | None = None) -> Hosts:
    """The table `HOSTS` of a Python file, or the MockHosts. Raises NoHosts."""
    if file is None:
        return Hosts("MockHost", PatientMock, cast(Mapping[str, PlantedHost], host_defects()))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise NoHosts(f"{file} is no Python file; name one with a table HOSTS")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where its dataclasses look
    spec.loader.exec_module(module)
    found = getattr(module, "HOSTS", None)
    if not isinstance(found, Hosts):
        raise NoHosts(f"{file} has no table HOSTS of the type realm_harness.hostsuite.score.Hosts")
    return found


def run_against(
    factory: Factory, name: str, cases: Iterable[Case], patience: float = PATIENCE
) -> list[CaseResult]:
    """Runs cases against a host in this process. HostUnavailable if it does not serve a probe at all."""
    with open_host(LocalLauncher(name, factory, patience), SETTINGS) as subject:
        return run_cases(cases, subject).results


def asked(hosts: Hosts, globs: Sequence[str]) -> list[Case]:
    """The cases for these hosts."""
    return [case for case in host_cases(globs) if case.id not in hosts.unoffered]


def verdicts_on(file: Path | None, defect: str, globs: Sequence[str]) -> list[Told]:
    """What the cases make of a defect, or of the healthy host for none."""
    hosts = hosts_of(file)
    cases = asked(hosts, globs)
    if not defect:
        return [result.told for result in run_against(hosts.healthy, hosts.name, cases, LONG_PATIENCE)]
    return [result.told for result in judged(hosts.defects[defect], cases)]


def judged(defect: PlantedHost, cases: Sequence[Case]) -> list[CaseResult]:
    """The results of a defect; a host that cannot even begin is caught by all of them."""
    chosen = [case for case in cases if case.id not in SLOW or fnmatchcase(case.id, defect.claim)]
    try:
        return run_against(defect.host, defect.id, chosen)
    except HostUnavailable as unavailable:
        return restored(chosen, [(case.id, "failed", str(unavailable)) for case in chosen])


def score_hosts(
    globs: Sequence[str] = (),
    wanted: Sequence[str] = (),
    progress: Callable[[DefectScore], None] = lambda score: None,
    file: Path | None = None,
) -> Score:
    """Scores the cases, some defects at a time; `progress` is called for each, in order."""
    hosts = hosts_of(file)
    cases = asked(hosts, globs)
    chosen = [defect for name, defect in hosts.defects.items() if not wanted or name in wanted]
    spawned = multiprocessing.get_context("spawn")  # a fork would copy wasmtime's threads halfway
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=spawned) as pool:
        healthy = pool.submit(verdicts_on, file, "", globs)
        waiting: list[Future[list[Told]]] = [
            pool.submit(verdicts_on, file, defect.id, globs) for defect in chosen
        ]
        scores = []
        for defect, told in zip(chosen, waiting, strict=True):
            scores.append(DefectScore(defect, {case: verdict for case, verdict, _ in told.result()}))
            progress(scores[-1])
        return Score(cases, restored(cases, healthy.result()), scores)
