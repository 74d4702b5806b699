"""One sequence: its tokens, the pages that hold their keys and values, and the names of full pages.

The tokens are what counts; keys and values are only computed from them. So pages may be taken away at any
time between two steps, and what was in them is computed again when the sequence goes on. (The keys and values
of a sequence that a guest runs layer by layer come from the guest's own hidden states; its pages stay.)
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from copy import copy
from hashlib import blake2b

import numpy as np

from realm_reference.engine.pages import PagePool
from realm_reference.model.runner import PAGE, Chunk


def pages_for(positions: int) -> int:
    """The pages that so many positions take."""
    return -(-positions // PAGE)


class Sequence:
    """`computed` of its tokens have their keys and values in `pages`. Not thread-safe.

    `number` counts the sequences in the order of their opening. `cuts` are the ends of the chunks that it
    goes through the model in, or None where bits do not depend on them. `asking`: it has work that waits.
    `pinned`: its pages cannot be computed again.
    """

    def __init__(self, number: int, owner: str, adapter: int, salt: str, *, cuts: list[int] | None) -> None:
        self.number = number
        self.owner = owner
        self.adapter = adapter
        self.cuts = cuts
        self.tokens = array("i")
        self.pages = array("i")
        self.computed = 0
        self.pinned = False
        self.asking = False
        self.last_step = 0
        # Nobody finds another's pages: names begin with the owner's, so that nobody learns another's prompt
        # by timing, and with what the adapter is, which changes keys and values.
        self._names = [blake2b(repr((owner, salt)).encode(), digest_size=16).digest()]
        self._odd = b""

    @property
    def left(self) -> int:
        """Tokens whose keys and values are still to be computed."""
        return len(self.tokens) - self.computed

    @property
    def written(self) -> int:
        """The page that the next position is written to."""
        return self.pages[self.computed // PAGE]

    def append(self, ids: Iterable[int], chunk: int) -> None:
        """More tokens, to be computed; where cuts matter, in chunks of `chunk` counted from the first."""
        begin = len(self.tokens)
        self.tokens.extend(ids)
        if self.cuts is not None:
            self.cuts += [*range(begin + chunk, len(self.tokens), chunk), len(self.tokens)]

    def next_cut(self, room: int) -> int:
        """Where a chunk that begins at `computed` ends, if it may have `room` positions; `computed` if none
        fits.
        """
        if self.cuts is None:
            return min(self.computed + room, len(self.tokens))
        cut = self.cuts[bisect_right(self.cuts, self.computed)]
        return cut if cut - self.computed <= room else self.computed

    def chunk(self, end: int, rows: int) -> Chunk:
        """The tokens from `computed` to `end` as a runner takes them."""
        return Chunk(
            np.array(self.tokens[self.computed : end], np.int32),
            self.computed,
            np.array(self.pages, np.int32),
            rows,
            self.adapter,
        )

    def find_prefix(self, pool: PagePool, most: int) -> int:
        """Hold pages that others have computed already, for up to `most` positions; returns how many
        positions that saves.
        """
        if self.computed % PAGE:
            return 0
        found: list[int] = []
        for index in range(self.computed // PAGE, most // PAGE):
            page = pool.find(self._name(index))
            if page is None:
                break
            found.append(page)
        begin = self.computed // PAGE
        while found and not self._is_cut((begin + len(found)) * PAGE):
            found.pop()
        for page in found:
            pool.share(page)
        pool.release(self.pages[begin : begin + len(found)])
        self.pages[begin : begin + len(found)] = array("i", found)
        self.computed += len(found) * PAGE
        return len(found) * PAGE

    def advance(self, pool: PagePool, end: int) -> None:
        """Keys and values up to `end` are computed: pages that are full now get their names."""
        for index in range(self.computed // PAGE, end // PAGE):
            pool.name(self.pages[index], self._name(index))
        self.computed = end

    def twin(self, number: int, pool: PagePool) -> Sequence:
        """Another sequence with the same tokens, on the same pages as far as they are computed."""
        twin = copy(self)
        twin.number = number
        twin.cuts = None if self.cuts is None else list(self.cuts)
        twin.tokens, twin._names = self.tokens[:], list(self._names)
        twin.pages = self.pages[: pages_for(self.computed)]
        for page in twin.pages:
            pool.share(page)
        return twin

    def replace_written(self, pool: PagePool) -> tuple[int, int]:
        """Have a page of its own for the next position; returns the one it was on, and the new one, which has
        yet to be made alike.
        """
        index = self.computed // PAGE
        shared, own = self.pages[index], pool.take()
        pool.release([shared])
        self.pages[index] = own
        return shared, own

    def truncate(self, pool: PagePool, length: int) -> None:
        """Only the first `length` tokens remain, and the pages that these need."""
        del self.tokens[length:]
        if self.cuts is not None and length and not self._is_cut(length):
            # A part of a chunk remains, with bits that no cuts say: nobody may find what comes after it.
            self._odd += b"%d " % self.number
        if self.cuts is not None:
            del self.cuts[bisect_right(self.cuts, max(length - 1, 0)) :]
            self.cuts += [length] if length else []
        self.computed = min(self.computed, length)
        del self._names[1 + length // PAGE :]
        pool.release(self.pages[pages_for(length) :])
        del self.pages[pages_for(length) :]

    def drop(self, pool: PagePool) -> None:
        """Give all pages back; the tokens stay, to be computed again."""
        pool.release(self.pages)
        self.computed, self._odd = 0, b""
        del self.pages[:], self._names[1:]

    def _is_cut(self, position: int) -> bool:
        return self.cuts is None or self.cuts[bisect_right(self.cuts, position) - 1] == position

    def _name(self, index: int) -> bytes:
        """The name of the content of page `index`: all tokens up to its end, chained page by page, and where
        their bits depend on it, the cuts.
        """
        while len(self._names) <= index + 1:
            begin = (len(self._names) - 1) * PAGE
            content = self.tokens[begin : begin + PAGE].tobytes()
            if self.cuts is not None:
                first, last = bisect_right(self.cuts, begin), bisect_right(self.cuts, begin + PAGE - 1)
                content += array("i", self.cuts[first : last + 1]).tobytes() + self._odd
            self._names.append(blake2b(self._names[-1] + content, digest_size=16).digest())
        return self._names[index + 1]
