"""The reference's server on an engine with a planted defect: what the chapters over the wire have to catch.

The model is one that reads nothing but its pages: what it says depends on every token before, as the pages
have it. So a page that is another's, or computed in another order, shows at once; and it costs no arithmetic.
A defect is a bent method of the engine or of the model's step, which nothing but this file knows.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from realm_reference.engine.scheduler import Scheduler
from realm_reference.engine.sequence import Sequence as Tokens
from realm_reference.engine.session import Session
from realm_reference.engine.work import Forward
from realm_reference.model.config import LlamaConfig
from realm_reference.model.runner import PAGE, Chunk, Floats

POSITION_SECONDS = 2e-4
"""What a position of a prompt takes, so that one that is not computed is seen to be quicker."""
REPEATS = 6.0


class PageReader:
    """A `Runner` whose keys and values are a digest of all tokens so far, chained in the pages."""

    batch_invariant = True
    precision = "float32"
    page_bytes = 1 << 20

    def __init__(self, config: LlamaConfig, vocab_size: int) -> None:
        self.config = config
        self.vocab_size = vocab_size

    def reserve(self, pages: int) -> None:
        self.states = np.zeros((pages * PAGE, 2), np.uint64)  # a digest and a token for each position

    def copy_page(self, source: int, target: int) -> None:
        self._page(target)[:] = self._page(source)

    def step(self, chunks: Sequence[Chunk]) -> Floats:
        return np.concatenate([np.zeros((0, self.vocab_size), np.float32), *map(self.read, chunks)])

    def read(self, chunk: Chunk) -> Floats:
        """[rows, V]: the tokens are written where their positions are, and their logits read from there."""
        places = (chunk.pages[:, None] * PAGE + np.arange(PAGE)).ravel()
        rows = []
        for at, token in enumerate(chunk.ids.tolist(), chunk.position):
            before = int(self.states[places[at - 1], 0]) if at else 0
            named = f"{before} {token} {at}".encode()
            digest = hashlib.blake2b(named, digest_size=8).digest()
            self.states[places[at]] = int.from_bytes(digest, "little"), token
            if at >= chunk.position + len(chunk.ids) - chunk.rows:
                rows.append(self._logits(self.states[places[: at + 1]]))
        time.sleep(POSITION_SECONDS * len(chunk.ids) if len(chunk.ids) > PAGE else 0)
        return np.array(rows, np.float32).reshape(len(rows), self.vocab_size)

    def _logits(self, seen: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Tokens that were seen, by chance, and mostly what followed where the last one stood before."""
        chance = np.random.default_rng(int(seen[-1, 0])).standard_normal(self.vocab_size)
        tokens = seen[:, 1].astype(np.int64)
        row = np.full(self.vocab_size, -30, np.float32)
        row[tokens] = chance[tokens]
        again = np.flatnonzero(tokens[:-1] == tokens[-1])
        if len(again) and int(seen[-1, 0]) % 8:
            row[tokens[again[-1] + 1]] += REPEATS
        row[:3] = -30  # no end, no tokens without a text
        return row

    def _page(self, number: int) -> NDArray[np.uint64]:
        return self.states[number * PAGE : (number + 1) * PAGE]


Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class PlantedEngine:
    """A defect: what is wrong, the case that has to catch it, and the context of the model, which is all that
    the KV cache holds.
    """

    id: str
    what: str
    claim: str
    plant: Plant
    context: int


CONTEXT = 1200
ENGINES: list[PlantedEngine] = []


def planted(slug: str, what: str, claim: str, context: int = CONTEXT) -> Callable[[Plant], Plant]:
    """Registers what plants a defect."""

    def register(plant: Plant) -> Plant:
        ENGINES.append(PlantedEngine(slug, what, f"CHAT-{claim}", plant, context))
        return plant

    return register


def bent(owner: type, name: str, bend: Callable[..., Any]) -> Plant:
    """Plants a method that gets the healthy one first."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        healthy = getattr(owner, name)
        patch.setattr(owner, name, lambda *given, **named: bend(healthy, *given, **named))

    return plant


@planted("rows-swapped", "two sequences of a step get each other's logits", "BATCH-001")
def swapped(patch: pytest.MonkeyPatch) -> None:
    def step(healthy: Any, self: PageReader, chunks: Sequence[Chunk]) -> Floats:
        rows: Floats = healthy(self, chunks)
        return rows[::-1] if len(chunks) > 1 else rows

    bent(PageReader, "step", step)(patch)


@planted("noise-of-the-batch", "logits depend on how many sequences are in a step", "BATCH-006")
def batch_noise(patch: pytest.MonkeyPatch) -> None:
    def step(healthy: Any, self: PageReader, chunks: Sequence[Chunk]) -> Floats:
        rows: Floats = healthy(self, chunks)
        return rows * np.float32(1 + 1e-3 * (len(chunks) - 1))

    bent(PageReader, "step", step)(patch)


@planted("copies-mix", "of sequences in a step the second reads the pages of the first", "BATCH-002")
def copies(patch: pytest.MonkeyPatch) -> None:
    def step(healthy: Any, self: PageReader, chunks: Sequence[Chunk]) -> Floats:
        rows: Floats = healthy(self, chunks)
        if len(chunks) > 1 and all(chunk.rows == 1 for chunk in chunks):
            rows[1] = rows[0]
        return rows

    bent(PageReader, "step", step)(patch)


@planted(
    "prompts-in-the-way", "beside a chunk of a prompt decoding sequences get the logits before", "BATCH-003"
)
def beside_prompts(patch: pytest.MonkeyPatch) -> None:
    def step(healthy: Any, self: PageReader, chunks: Sequence[Chunk]) -> Floats:
        rows: Floats = healthy(self, chunks)
        if len(chunks) > 1 and any(len(chunk.ids) > PAGE for chunk in chunks):
            rows = np.roll(rows, 1, axis=1)
        return rows

    bent(PageReader, "step", step)(patch)


@planted("places-moved", "when a sequence leaves, the others' pages are moved by one", "BATCH-004")
def moved(patch: pytest.MonkeyPatch) -> None:
    def close(healthy: Any, self: Scheduler, sequence: Tokens) -> None:
        healthy(self, sequence)
        for other in self.sequences.values():
            if len(other.pages) > 1:
                other.pages = other.pages[1:] + other.pages[:1]

    bent(Scheduler, "close", close)(patch)


@planted("preempted-otherwise", "what lost its pages is computed again from other tokens", "BATCH-005", 320)
def preempted(patch: pytest.MonkeyPatch) -> None:
    def preempt(healthy: Any, self: Scheduler, *given: Any, **named: Any) -> bool:
        before = {sequence.number for sequence in self.sequences.values() if sequence.computed}
        there: bool = healthy(self, *given, **named)
        for sequence in self.sequences.values():
            if sequence.number in before and not sequence.computed:
                sequence.tokens[0] += 1
        return there

    bent(Scheduler, "_preempt", preempt)(patch)


@planted("last-page-first", "the pages of a prefix are taken in the wrong order", "PREFIX-001")
def last_first(patch: pytest.MonkeyPatch) -> None:
    def find(healthy: Any, self: Tokens, *given: Any) -> int:
        saved: int = healthy(self, *given)
        if saved:
            end = self.computed // PAGE
            begin = end - saved // PAGE
            self.pages[begin:end] = self.pages[begin:end][::-1]
        return saved

    bent(Tokens, "find_prefix", find)(patch)


@planted("unchained", "a page is found by its own tokens, whatever is before them", "PREFIX-006")
def unchained(patch: pytest.MonkeyPatch) -> None:
    def name(healthy: Any, self: Tokens, index: int) -> bytes:
        content = self.tokens[index * PAGE : (index + 1) * PAGE].tobytes()
        return hashlib.blake2b(self._names[0] + content, digest_size=16).digest()

    bent(Tokens, "_name", name)(patch)


@planted("unsalted", "pages are found whoever computed them", "PREFIX-004")
def unsalted(patch: pytest.MonkeyPatch) -> None:
    def begin(healthy: Any, self: Tokens, *given: Any, **named: Any) -> None:
        healthy(self, *given, **named)
        self._names = [b"everybody"]

    bent(Tokens, "__init__", begin)(patch)


@planted("nothing-forgotten", "truncate leaves what a sequence holds as it is", "DRAFT-001")
def kept(patch: pytest.MonkeyPatch) -> None:
    bent(Session, "truncate", lambda healthy, self, length: None)(patch)


@planted(
    "forgets-too-late", "what follows a truncated place is computed on the keys that were there", "DRAFT-002"
)
def stale(patch: pytest.MonkeyPatch) -> None:
    def truncate(healthy: Any, self: Tokens, pool: Any, length: int) -> None:
        computed = self.computed
        healthy(self, pool, length)
        # The sampled token stands where a guess was computed, and nobody notices.
        self.stale = length if computed > length else None  # type: ignore[attr-defined]

    def chunk(healthy: Any, self: Tokens, end: int, rows: int) -> Chunk:
        made: Chunk = healthy(self, end, rows)
        if getattr(self, "stale", None) == made.position:
            made.ids[0] = (made.ids[0] + 1) % 200
        return made

    bent(Tokens, "truncate", truncate)(patch)
    bent(Tokens, "chunk", chunk)(patch)


@planted("rows-early", "of several rows each is that of the position before", "DRAFT-005")
def rows_early(patch: pytest.MonkeyPatch) -> None:
    def take(healthy: Any, self: Forward, pool: Any, count: int, result: Floats) -> Floats | None:
        if len(result) > 1:
            result = np.concatenate([result[:1], result[:-1]])
        rows: Floats | None = healthy(self, pool, count, result)
        return rows

    bent(Forward, "take", take)(patch)
