"""What a right guest never does, as the host can see it.

A rule's name is stable: tests and the conformance suite refer to it, a finding's message tells a person what
was wrong. Rules hold for every guest of the contract, whatever it samples; a guest may fork, truncate,
draft, or ask for logits that it does not need.
"""

from __future__ import annotations

from dataclasses import dataclass

RULES = {
    "prompt": "the first tokens fed are the prompt's, in order",
    "history": "every token fed after the prompt is the one emitted before it",
    "position": "every layer takes every position once, in order",
    "layer-order": "a row goes through all layers in order before logits are asked of it",
    "hidden-chain": "hidden vectors come back exactly as the host wrote them",
    "emit-missing": "a sampled token is emitted before the next one is fed, and before generate returns",
    "emit-extra": "no token is emitted twice, or without logits to sample it from",
    "greedy": "at temperature 0 the emitted token is one of the highest logits",
    "text": "the emitted texts, joined, are the emitted tokens' text, as far as no stop string cut it",
    "max-tokens": "no more tokens are emitted than max_tokens",
    "finish-reason": "generate returns the reason for which it ended",
    "refused": "no call is refused for what the guest passed: a range, bounds, alignment, UTF-8, a handle",
    "error-lost": "a fatal error of a host call is what generate returns",
    "call-after-error": "after a fatal error nothing is called but session_free",
    "call-after-stop": "after emit said stop nothing is called but session_free",
    "session-leak": "a guest frees the sessions that it opened",
}
"""What each rule asks of a guest."""


@dataclass(frozen=True)
class Expected:
    """What a request asks for, as far as rules need it."""

    prompt: tuple[int, ...] = ()
    max_tokens: int = 0
    greedy: bool = False
    context_length: int = 0
    stop_strings: tuple[str, ...] = ()
    stop_tokens: tuple[int, ...] = ()

    @property
    def room(self) -> int:
        """How many tokens can be generated before max_tokens or the context ends it."""
        return max(0, min(self.max_tokens, self.context_length - len(self.prompt)))


@dataclass(frozen=True)
class Finding:
    """A rule that the guest broke, at or before the call of this index (the number of calls, at the end)."""

    rule: str
    call: int
    message: str

    def __str__(self) -> str:
        return f"[{self.rule}] at call #{self.call}: {self.message}"
