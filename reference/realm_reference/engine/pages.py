"""The pages of the KV cache: who holds each, what is in it, and which one goes when a new one is needed.

PagedAttention (https://arxiv.org/abs/2309.06180) with prefix sharing: a full page whose content has a name is
kept when its last holder leaves, so that the next sequence that begins with the same tokens finds it. A page
is in one of three states: held by sequences, idle (held by nobody, but its content is known), or empty.
"""

from __future__ import annotations

from collections.abc import Iterable


class PagePool:
    """Pages 0 to `pages` - 1. Not thread-safe."""

    def __init__(self, pages: int) -> None:
        self.total = pages
        # The lowest numbers are handed out first, and what was used last before what was never used: memory
        # that nothing was written to costs nothing.
        self._empty = list(range(pages - 1, -1, -1))
        self._holders = [0] * pages
        self._names: dict[int, bytes] = {}
        self._named: dict[bytes, int] = {}
        self._idle: dict[int, None] = {}  # what is idle for longest is first

    @property
    def available(self) -> int:
        """Pages that `take` can give."""
        return len(self._empty) + len(self._idle)

    @property
    def held(self) -> int:
        """Pages that sequences hold; one that several share counts once."""
        return self.total - self.available

    def take(self) -> int:
        """A page to write to, held once: an empty one, or the one that is idle for longest."""
        if self._empty:
            page = self._empty.pop()
        else:
            page = next(iter(self._idle))
            del self._idle[page]
            self.forget(page)
        self._holders[page] = 1
        return page

    def find(self, name: bytes) -> int | None:
        """The page whose content has this name."""
        return self._named.get(name)

    def share(self, page: int) -> None:
        """One holder more."""
        self._idle.pop(page, None)
        self._holders[page] += 1

    def shared(self, page: int) -> bool:
        """Whether somebody else holds it too, so that its holder may not write to it."""
        return self._holders[page] > 1

    def release(self, pages: Iterable[int]) -> None:
        """One holder less for each. What a sequence gives back goes from its end: its beginning is what
        others are likeliest to share, so that shall stay longest.
        """
        for page in reversed(list(pages)):
            self._holders[page] -= 1
            if self._holders[page]:
                continue
            if page in self._names:
                self._idle[page] = None
            else:
                self._empty.append(page)

    def name(self, page: int, name: bytes) -> None:
        """The page is full and holds what `name` stands for; of two alike the first is found."""
        if name not in self._named:
            self.forget(page)
            self._names[page], self._named[name] = name, page

    def forget(self, page: int) -> None:
        """Its content is about to change."""
        name = self._names.pop(page, None)
        if name is not None:
            del self._named[name]
