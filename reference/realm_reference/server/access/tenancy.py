"""Keys, limits and ledger of one server, from their files; read again when those change."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from realm_abi.interface import ModuleRejected

from realm_reference.engine.adapters import Adapters
from realm_reference.orchestration import Orchestrator
from realm_reference.server.access.auth import Authenticator
from realm_reference.server.service import Service
from realm_reference.tenants.admission import Admission
from realm_reference.tenants.keys import KeyFileError, load_keys
from realm_reference.tenants.ledger import Ledger, LedgerError
from realm_reference.tenants.policy import Policies, PolicyError, load_policies

POLL_SECONDS: Final = 0.5
RECOUNT_POLLS: Final = 10

log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int] | None


class TenancyError(Exception):
    """A file of keys, limits or usage cannot be used; one line for the operator, without any key."""


class Tenancy:
    """What a server knows of its tenants. A path is None for a file that is not used."""

    def __init__(self, keys: Path | None, policies: Path | None, ledger: Ledger | None) -> None:
        self._keys = keys
        self._policies = policies
        self._read = self._read_policies()
        self.auth = Authenticator(None if keys is None else load_keys(keys))
        self.admission = Admission(self._read, ledger)

    def load_guests(self, orchestrator: Orchestrator) -> None:
        """Compile the tenants' own modules; TenancyError for one that cannot be used."""
        try:
            orchestrator.use_guests(self._read.guests)
        except ModuleRejected as error:
            raise TenancyError(f"{self._policies}: {error}") from None

    def use_adapters(self, adapters: Adapters) -> None:
        """From now on adapters are their tenants' alone; thread-safe."""
        adapters.restrict(self._read.adapters)

    def check_adapters(self, names: Collection[str]) -> None:
        """TenancyError for a tenant's adapter that is none of these."""
        self._check_adapters(self._read, names)

    def reload(self, orchestrator: Orchestrator, adapters: Collection[str]) -> None:
        """Everything from the files, or nothing: what cannot be read raises, and so do tenants' adapters
        that are none of `adapters`. Thread-safe.
        """
        keys = None if self._keys is None else load_keys(self._keys)
        policies = self._read_policies()
        self._check_adapters(policies, adapters)
        self.admission.accept(policies)
        orchestrator.use_guests(policies.guests)
        self.admission.use(policies)
        self._read = policies
        if keys is not None:
            self.auth.use(keys)
        self.admission.recount()

    async def watch(self, service: Service, every_seconds: float = POLL_SECONDS) -> None:
        """Have the service reload whenever a file is not the one that it was, until cancelled; and now and
        then learn from the ledger what other servers have let their tenants use.
        """
        before = await asyncio.to_thread(self._stamps)
        for number in itertools.count(1):
            await asyncio.sleep(every_seconds)
            if number % RECOUNT_POLLS == 0:
                await self._recount()
            now = await asyncio.to_thread(self._stamps)
            if now != before:
                await service.reload()
            before = now

    async def _recount(self) -> None:
        try:
            await asyncio.to_thread(self.admission.recount)
        except LedgerError as error:
            log.error("what other servers let in is not counted", extra={"reason": str(error)})

    def _check_adapters(self, policies: Policies, names: Collection[str]) -> None:
        for name, tenants in policies.adapters.items():
            if name not in names:
                whose = ", ".join(sorted(tenants))
                missing = f"{self._policies}: the adapter {name!r} of {whose} is not loaded"
                raise TenancyError(f"{missing}; give it with --adapter {name}=PATH")

    def _read_policies(self) -> Policies:
        return Policies() if self._policies is None else load_policies(self._policies)

    def _stamps(self) -> tuple[_Stamp, ...]:
        return tuple(_stamp(path) for path in (self._keys, self._policies) if path is not None)


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


@contextmanager
def open_tenancy(keys: Path | None, policies: Path | None, ledger: Path | None) -> Iterator[Tenancy]:
    """Read the files and open the ledger, which is closed at the end; TenancyError."""
    try:
        opened = None if ledger is None else Ledger(ledger)
    except LedgerError as error:
        raise TenancyError(str(error)) from None
    try:
        try:
            tenancy = Tenancy(keys, policies, opened)
        except (KeyFileError, PolicyError, LedgerError) as error:
            raise TenancyError(str(error)) from None
        yield tenancy
    finally:
        if opened is not None:
            opened.close()
