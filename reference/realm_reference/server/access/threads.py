"""Work that takes time, off the event loop, without one tenant's keeping all threads busy."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

AT_ONCE: Final = 2


class TenantThreads:
    """Runs functions on threads, `at_once` of each tenant's: who sends a thousand long prompts waits for them
    alone. For one event loop.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(at_once))

    async def run(self, tenant: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`function` with these arguments, in its tenant's turn."""
        async with self._turns[tenant]:
            return await asyncio.to_thread(function, *args, **kwargs)
