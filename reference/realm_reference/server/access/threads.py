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
        return await self.run_within(None, tenant, function, *args, **kwargs)

    async def run_within(
        self,
        seconds: float | None,
        tenant: str,
        function: Callable[P, R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """As `run`; TimeoutError when the function takes longer than `seconds`.

        A thread cannot be stopped: until it ends by itself the turn stays taken, whoever has gone meanwhile.
        """
        turn = self._turns[tenant]
        await turn.acquire()
        work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))

        def over(done: asyncio.Future[R]) -> None:
            turn.release()
            if not done.cancelled():
                done.exception()  # it may be that nobody waits for it any more

        work.add_done_callback(over)
        return await asyncio.wait_for(asyncio.shield(work), seconds)
