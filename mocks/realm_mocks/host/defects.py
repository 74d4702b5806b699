"""Hosts that are wrong on purpose, one defect each: what the host suite has to catch.

Each is a `ProbedMock` with a method of it bent; nothing of them is in the way of the healthy one. `source` is
where such a thing was seen: numbers are those of the project's list of defects.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from realm_mocks.host.probed import ProbedMock

MODULES = ("defects_calls", "defects_state", "defects_v1", "defects_host")

HostT = TypeVar("HostT", bound=ProbedMock)


@dataclass(frozen=True)
class HostDefect:
    """A planted defect of a host.

    Attributes:
        id: a short slug.
        sentence: what is different, for a reader of the score.
        source: where such a thing was seen.
        claim: a case, or a glob of some, that has to catch it.
        host: makes the host from a module's bytes.
    """

    id: str
    sentence: str
    source: str
    claim: str
    host: Callable[[bytes], ProbedMock]


HOST_DEFECTS: dict[str, HostDefect] = {}


def planted(slug: str, sentence: str, source: str, claim: str) -> Callable[[type[HostT]], type[HostT]]:
    """Registers a class of hosts as a defect."""

    def register(host: type[HostT]) -> type[HostT]:
        if slug in HOST_DEFECTS:
            raise ValueError(f"two defects are called {slug}")
        HOST_DEFECTS[slug] = HostDefect(slug, sentence, source, f"HOST-{claim}", host)
        return host

    return register


def host_defects() -> dict[str, HostDefect]:
    """All planted defects by id."""
    for name in MODULES:  # each registers its own
        importlib.import_module(f"realm_mocks.host.{name}")
    return HOST_DEFECTS
