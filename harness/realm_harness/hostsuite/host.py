"""What a host under test has to offer: start it with a module, complete prompts, say how much memory it took.

A host is any program that loads a guest module and answers chat completions with what the guest emits, or a
Python object that does the same.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from realm_harness.results import Evidence


class Refused(Exception):
    """The host did not take the module; the message is what it said."""


class HostUnavailable(Exception):
    """The host cannot be tested at all; the message is one line with the remedy."""


@dataclass(frozen=True)
class Reply:
    """What came of a request: its text; if it failed, what the host said; whether it never ended."""

    text: str
    failure: str = ""
    hung: bool = False


class MemoryWatch(Protocol):
    """How much memory the host took at most while it was watched; None where that cannot be seen."""

    @property
    def grown(self) -> int | None:
        """Bytes."""
        ...


class Host(Protocol):
    """A host that runs one module."""

    @property
    def model(self) -> str:
        """The name of the model that the host's guests use."""
        ...

    def complete(self, prompt: str, /, **params: object) -> Reply:
        """One request, alone on its guest instance; safe to call from several threads.

        `params` are those of OpenAI's chat completions: max_tokens, temperature, top_p, seed, stop.
        """
        ...

    def watch_memory(self) -> AbstractContextManager[MemoryWatch]:
        """Watches the memory that the host takes."""
        ...

    def begin_case(self) -> None:
        """What was seen before is no evidence any more."""
        ...

    def evidence(self) -> Evidence:
        """What was seen since `begin_case`."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


class Launcher(Protocol):
    """Starts hosts."""

    @property
    def name(self) -> str:
        """What is started, for a reader."""
        ...

    def launch(self, wasm: bytes) -> Host:
        """A host that runs this module. Refused if it does not take it, HostUnavailable if it never runs."""
        ...
