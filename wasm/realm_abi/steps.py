"""Work that waits in places, written once as a straight line, for a thread of its own or for one of many.

A generator that yields what it waits for is that: whoever drives it decides what waiting means. `finish`
blocks the calling thread; a host that runs many guests on one thread takes up another meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

T = TypeVar("T")


class Aside:
    """Work of which nobody knows how long it takes: it wants a thread that others do not wait for."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.done: Future[Any] = Future()
        self._work = work

    def run(self) -> None:
        """Does the work; what it raises goes to who waits for it."""
        try:
            self.done.set_result(self._work())
        except BaseException as error:
            self.done.set_exception(error)


Steps = Generator[Future[Any] | Aside | None, None, T]
"""Yields what it waits for, or None where it would go on but others may have their turn. Returns a T."""

Answer = int | Steps[int]
"""What a host function answers, or the way to it, if that may take long."""


def until(future: Future[T]) -> Steps[T]:
    """Waits for a future; its result, or what it raises."""
    if not future.done():
        yield future
    return future.result()


def aside(work: Callable[[], T]) -> Steps[T]:
    """Has `work` done where nobody waits for it but these steps; its result, or what it raises."""
    waiting = Aside(work)
    yield waiting
    result: T = waiting.done.result()
    return result


def settled(answer: Answer) -> int:
    """A host function's answer, for which the calling thread waits if it has to."""
    return answer if isinstance(answer, int) else finish(answer)


def finish(steps: Steps[T]) -> T:
    """Takes all steps on the calling thread, which waits where they wait."""
    try:
        while True:
            waited = next(steps)
            if isinstance(waited, Aside):
                waited.run()
            elif waited is not None:
                with contextlib.suppress(CancelledError):
                    waited.exception()
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()
