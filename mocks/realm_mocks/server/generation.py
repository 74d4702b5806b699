"""From tokens to text: UTF-8 assembled across tokens, stop strings held back, the cap, the finish reason."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Generation:
    """One choice of an answer.

    Attributes:
        tokens: the tokens that were generated, the last one included.
        pieces: for each token the text that it lets go, possibly empty; joined they are the answer.
        finish_reason: "stop" or "length".
        prompt_tokens: tokens of the prompt.
        cut: whether a stop string ended it.
        logprobs: an entry of OpenAI's `logprobs.content` for each token; None when nobody asked.
        call: the function that is called in place of saying anything.
    """

    tokens: tuple[bytes, ...]
    pieces: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int
    cut: bool = False
    logprobs: tuple[dict[str, Any], ...] | None = None
    call: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)

    @property
    def completion_tokens(self) -> int:
        """Tokens generated, whether or not their text was held back."""
        return len(self.tokens)


def generate(tokens: list[bytes], stops: tuple[str, ...], cap: int | None, prompt_tokens: int) -> Generation:
    """Cut `tokens` at `cap` and at the first stop string, and make text of them."""
    finish = "stop" if cap is None or cap > len(tokens) else "length"
    used = tokens if cap is None else tokens[:cap]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    pieces: list[str] = []
    held = ""
    for index, token in enumerate(used):
        held += decoder.decode(token, final=index == len(used) - 1)
        at = find_stop(held, stops)
        if at is not None:
            return Generation(tuple(used[: index + 1]), (*pieces, held[:at]), "stop", prompt_tokens, cut=True)
        keep = 0 if index == len(used) - 1 else stop_prefix(held, stops)
        pieces.append(held[: len(held) - keep])
        held = held[len(held) - keep :]
    return Generation(tuple(used), tuple(pieces), finish, prompt_tokens)


def find_stop(text: str, stops: tuple[str, ...]) -> int | None:
    """Where the first stop string begins in `text`, or None."""
    found = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return min(found, default=None)


def stop_prefix(text: str, stops: tuple[str, ...]) -> int:
    """Length of the longest end of `text` that may still grow into a stop string."""
    longest = max((len(stop) for stop in stops), default=0)
    for size in range(min(len(text), longest - 1), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return size
    return 0
