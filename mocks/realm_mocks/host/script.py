"""What the model that is not there would have said.

A script answers one question: given all that the model has seen, which logits come next? It is pure, so that
a run can be repeated and a forked or truncated session gives what a real model would give. `Winners` is for
tests of the loop (this token, then that one), `Fixed` for statistics over sampling, `Hashed` for tests in
which every token fed has to matter, `Computed` for everything else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from realm_mocks.host.vocabulary import Tokenizer

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Moment:
    """Where the model is asked: all `tokens` seen so far, the first `prompt_length` of them the prompt."""

    tokens: tuple[int, ...]
    prompt_length: int
    vocab_size: int

    @property
    def index(self) -> int:
        """Which generated token these logits decide, from 0; negative inside the prompt."""
        return len(self.tokens) - self.prompt_length


class Script(Protocol):
    """Decides the logits at every moment."""

    def logits(self, moment: Moment) -> Logits:
        """Logits `[vocab_size]`, float32."""


def background(vocab_size: int) -> Logits:
    """Logits `[vocab_size]` of tokens not meant to win: below zero, unequal to their neighbours."""
    return np.asarray(-(1.0 + np.arange(vocab_size) % 97) / 98.0, dtype=np.float32)


@dataclass(frozen=True)
class Winners:
    """The n-th step's tokens win by `margin` over everything else; several tokens in a step are an exact tie.

    After the last step `afterwards` wins, usually an EOS. Inside the prompt a printable ASCII byte wins that
    depends on the last token fed, so that a guest which samples from the wrong row says something else.
    """

    steps: tuple[tuple[int, ...], ...]
    afterwards: int
    margin: float = 16.0

    def logits(self, moment: Moment) -> Logits:
        """Logits `[vocab_size]` with this moment's winners at `margin`."""
        result = background(moment.vocab_size)
        result[list(self.winners(moment))] = self.margin
        return result

    def winners(self, moment: Moment) -> tuple[int, ...]:
        """The tokens that win at this moment."""
        if moment.index < 0:
            return ((33 + (31 * moment.tokens[-1] + 7) % 94) % moment.vocab_size,)
        return self.steps[moment.index] if moment.index < len(self.steps) else (self.afterwards,)


@dataclass(frozen=True, eq=False)
class Fixed:
    """The same logits `[vocab_size]` at every moment: every sample is drawn from one known distribution."""

    values: Logits

    def logits(self, moment: Moment) -> Logits:
        """The fixed logits."""
        return self.values


@dataclass(frozen=True, eq=False)
class Table:
    """Row n `[vocab_size]` of a table for the n-th generated token, the last row for all that follow."""

    rows: Logits

    def logits(self, moment: Moment) -> Logits:
        """The moment's row; the first row inside the prompt."""
        row: Logits = self.rows[min(max(moment.index, 0), len(self.rows) - 1)]
        return row


@dataclass(frozen=True)
class Hashed:
    """Pseudo-random normal logits keyed by the history: one wrong, missing or swapped token changes all."""

    seed: int = 0
    scale: float = 4.0

    def logits(self, moment: Moment) -> Logits:
        """Logits `[vocab_size]`, a function of `seed` and the tokens seen."""
        history = np.asarray(moment.tokens, dtype="<i8").tobytes()
        digest = hashlib.blake2b(history, digest_size=16, key=self.seed.to_bytes(8, "little")).digest()
        noise = np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype="<u8")))
        return (self.scale * noise.standard_normal(moment.vocab_size)).astype(np.float32)


@dataclass(frozen=True)
class Computed:
    """Logits from a function of the moment."""

    function: Callable[[Moment], Logits]

    def logits(self, moment: Moment) -> Logits:
        """What the function returns."""
        return self.function(moment)


Step = int | bytes | str | tuple[int, ...]
"""One step of a written script: an id, one whole piece (bytes), a text (of any length), a tie of ids."""


def winners(
    steps: str | Sequence[Step], tokenizer: Tokenizer, *, margin: float = 16.0, afterwards: int | None = None
) -> Winners:
    """A `Winners` script written as text or as a sequence of steps; ends with the tokenizer's EOS.

    >>> from realm_mocks.host import default_vocabulary
    >>> winners(["hello", b"\\xf0\\x9f", 33, (1, 2)], default_vocabulary()).steps[2:]
    ((33,), (1, 2))
    """
    if afterwards is None:
        if not tokenizer.eos_ids:
            raise ValueError(
                "this tokenizer has no EOS: say which token comes after the script (afterwards=)"
            )
        afterwards = tokenizer.eos_ids[0]
    written: list[tuple[int, ...]] = []
    for step in [steps] if isinstance(steps, str) else steps:
        if isinstance(step, str):
            written.extend((token,) for token in tokenizer.encode(step))
        elif isinstance(step, bytes):
            written.append((_piece(step, tokenizer),))
        else:
            written.append((step,) if isinstance(step, int) else step)
    return Winners(tuple(written), afterwards, margin)


def _piece(piece: bytes, tokenizer: Tokenizer) -> int:
    for token in range(tokenizer.vocab_size):
        if tokenizer.token_bytes(token) == piece:
            return token
    raise ValueError(f"no token of this vocabulary is exactly {piece!r}")
