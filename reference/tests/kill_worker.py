"""Makes `realm serve` processes in milliseconds: imports everything once, then forks one for each line of
arguments that comes on stdin, and says its pid. Run by test_ledger_kill.py.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable

from realm_reference import assembly
from realm_reference.commands import serve
from realm_reference.server import lifecycle
from realm_reference.server.access import tenancy
from realm_reference.tenants import lease, ledger

__all__ = ["assembly", "lifecycle", "tenancy"]  # imported so that the children need not


def plant_late_writing() -> None:
    """The defect that the campaign has to find: an answer's end is told while its row is still on its way."""
    commit = ledger.Ledger._commit

    def late(self: ledger.Ledger, batch: object) -> None:
        time.sleep(0.05)
        commit(self, batch)  # type: ignore[arg-type]

    async def at_once(self: lease.Lease, outcome: lease.Outcome) -> None:
        self.settle(outcome)

    ledger.Ledger._commit = late  # type: ignore[method-assign]
    lease.Lease.settled = at_once  # type: ignore[method-assign]


DEFECTS: dict[str, Callable[[], None]] = {"late": plant_late_writing}


def main() -> None:
    """Until stdin ends."""
    for name in sys.argv[1:]:
        DEFECTS[name]()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children: they are killed
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            serve(json.loads(line))
        print(pid, flush=True)


if __name__ == "__main__":
    main()
