"""What is done between two steps, on the thread that the runner is used from: an adapter loaded, for one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Aside:
    """A call that is made between two steps, and its end."""

    call: Callable[[], None]
    made: Future[None]

    def run(self) -> None:
        """Make it."""
        try:
            self.call()
        except Exception as error:
            log.warning("a call between two steps failed", exc_info=error)
            self.made.set_exception(error)
        else:
            self.made.set_result(None)
