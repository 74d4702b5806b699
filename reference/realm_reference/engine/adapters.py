"""The adapters that sessions run with: known by name, loaded and unloaded while other sessions go on.

A name stands for whatever was loaded under it last. Who holds an adapter keeps what he has, though the name
may stand for another by now or for none: its place in the runner is freed when the last holder lets go.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count

from realm_abi.errors import AbiError, ErrorCode

from realm_reference.model.adapters import Adapter
from realm_reference.model.runner import BASE, Runner

BetweenSteps = Callable[[Callable[[], None]], Future[None]]
"""Has a call made on the thread of the engine's loop, which is the runner's, while no step runs."""


@dataclass(eq=False)
class LoadedAdapter:
    """An adapter in a slot of the runner. It belongs to the registry, whose lock guards the last two."""

    adapter: Adapter
    slot: int
    holders: int = 0
    retired: bool = False

    @property
    def salt(self) -> str:
        """What tells its keys and values from those of other adapters, for the prefix cache: not the name,
        and not the slot, for either may come to stand for another adapter.
        """
        return self.adapter.digest


class Adapters:
    """The registry. Thread-safe; what is loaded or freed is so between two steps."""

    def __init__(self, runner: Runner, between_steps: BetweenSteps) -> None:
        self._runner = runner
        self._between_steps = between_steps
        self._changing = threading.Lock()  # one change at a time; held while the runner loads
        self._lock = threading.Lock()  # guards what follows, never held for long
        self._named: dict[str, LoadedAdapter] = {}
        self._taken: set[int] = {BASE}
        self._tenants: Mapping[str, Collection[str]] = {}

    def names(self, tenant: str) -> list[str]:
        """The adapters that a tenant may use."""
        with self._lock:
            return [name for name in self._named if self._permits(name, tenant)]

    @property
    def loaded(self) -> list[str]:
        """All names."""
        return list(self._named)

    @property
    def count(self) -> int:
        """Adapters in the runner's memory, those included that only old sessions still hold."""
        return len(self._taken) - 1

    def restrict(self, tenants: Mapping[str, Collection[str]]) -> None:
        """From now on each adapter named here is for these tenants only; all others are for everybody."""
        with self._lock:
            self._tenants = tenants

    def load(self, adapter: Adapter) -> None:
        """Have `adapter` stand for its name. Blocks until the runner has it; what that raises changes
        nothing.
        """
        with self._changing:
            before = self._named.get(adapter.name)
            if before is not None and before.adapter.digest == adapter.digest:
                return
            with self._lock:
                slot = next(number for number in count(BASE + 1) if number not in self._taken)
                self._taken.add(slot)
            try:
                self._between_steps(lambda: self._runner.load_adapter(slot, adapter)).result()
            except BaseException:
                with self._lock:
                    self._taken.discard(slot)
                raise
            with self._lock:
                self._named[adapter.name] = LoadedAdapter(adapter, slot)
                if before is not None:
                    self._retire(before)

    def unload(self, name: str) -> None:
        """Have the name stand for nothing; sessions that hold the adapter go on. KeyError if it is none."""
        with self._changing, self._lock:
            self._retire(self._named.pop(name))

    def find(self, name: str, tenant: str) -> LoadedAdapter:
        """The adapter of that name; AbiError `not_found` if there is none, `permission_denied` if it is not
        for this tenant.
        """
        with self._lock:
            return self._found(name, tenant)

    def hold(self, name: str, tenant: str) -> LoadedAdapter:
        """As `find`, for somebody who lets go of it with `release`."""
        with self._lock:
            found = self._found(name, tenant)
            found.holders += 1
            return found

    def share(self, held: LoadedAdapter) -> LoadedAdapter:
        """One holder more of what somebody holds."""
        with self._lock:
            held.holders += 1
            return held

    def release(self, held: LoadedAdapter) -> None:
        """One holder less. Never blocks."""
        with self._lock:
            held.holders -= 1
            self._free_if_gone(held)

    def _found(self, name: str, tenant: str) -> LoadedAdapter:
        if name not in self._named:
            raise AbiError(ErrorCode.not_found, f"no adapter {name[:64]!r}")
        if not self._permits(name, tenant):
            raise AbiError(ErrorCode.permission_denied, f"the adapter {name!r} is another tenant's")
        return self._named[name]

    def _permits(self, name: str, tenant: str) -> bool:
        return name not in self._tenants or tenant in self._tenants[name]

    def _retire(self, loaded: LoadedAdapter) -> None:
        loaded.retired = True
        self._free_if_gone(loaded)

    def _free_if_gone(self, loaded: LoadedAdapter) -> None:
        """Calls are made in the order in which they are asked for, so the slot may be given away at once."""
        if loaded.retired and not loaded.holders:
            self._taken.discard(loaded.slot)
            self._between_steps(lambda: self._runner.unload_adapter(loaded.slot))
