"""Hosts that are Python objects in this process: `--host python:MODULE:FACTORY`."""

from __future__ import annotations

import importlib
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from realm_harness.hostsuite.host import Host, HostUnavailable, MemoryWatch, Refused, Reply
from realm_harness.results import Evidence

PREFIX = "python:"
PATIENCE = 60.0


class PythonHost(Protocol):
    """What a factory makes: a host in this process that runs the module that the factory was given."""

    model: str
    """The name of its model."""

    def complete(self, prompt: str, **params: Any) -> tuple[str, str]:
        """One request on a fresh guest instance: its text, and what went wrong or nothing.

        `params` are max_tokens, temperature, top_p, seed and stop. Called from several threads.
        """
        ...

    def close(self) -> None:
        """Ends it."""
        ...


Factory = Callable[[bytes], PythonHost]
"""Takes the bytes of a module; raises, with a message that says why, if it does not take them."""


@dataclass
class LocalLauncher:
    """Starts hosts by a factory. `patience` is how many seconds a request may take."""

    name: str
    factory: Factory
    patience: float = PATIENCE

    def launch(self, wasm: bytes) -> Host:
        """A host in this process; whatever the factory raises is its refusal."""
        try:
            return LocalHost(self.factory(wasm), self.name, self.patience)
        except Exception as error:
            raise Refused(str(error) or type(error).__name__) from error


@dataclass
class LocalHost:
    """A `PythonHost` whose requests are run on threads, so that one that hangs is seen to."""

    inner: PythonHost
    name: str
    patience: float
    _begun: float = field(default_factory=time.perf_counter)
    _log: list[dict[str, object]] = field(default_factory=list)

    @property
    def model(self) -> str:
        """The name of its model."""
        return self.inner.model

    def complete(self, prompt: str, /, **params: object) -> Reply:
        """Runs the request on a thread of its own; one that does not end is left behind."""
        replies: list[Reply] = []
        thread = threading.Thread(target=lambda: replies.append(self._run(prompt, params)), daemon=True)
        self._note(">", prompt)
        thread.start()
        thread.join(self.patience)
        reply = replies[0] if replies else Reply("", f"no answer in {self.patience:.0f} s", hung=True)
        self._note("<", reply.failure or reply.text)
        return reply

    def _run(self, prompt: str, params: dict[str, object]) -> Reply:
        try:
            return Reply(*self.inner.complete(prompt, **params))
        except Exception as error:
            return Reply("", f"{type(error).__name__}: {error}")

    @contextmanager
    def watch_memory(self) -> Iterator[MemoryWatch]:
        """Watches what Python and NumPy allocate."""
        watch = Traced()
        tracemalloc.start()
        try:
            yield watch
        finally:
            watch.grown = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()

    def begin_case(self) -> None:
        """Forgets the log."""
        self._log.clear()
        self._begun = time.perf_counter()

    def evidence(self) -> Evidence:
        """The prompts and the texts."""
        last = next((str(entry["text"]) for entry in reversed(self._log) if entry["dir"] == ">"), "")
        return Evidence("", f"{self.name}, prompt: {last}", list(self._log))

    def close(self) -> None:
        """Ends it."""
        self.inner.close()

    def _note(self, direction: str, text: str) -> None:
        elapsed = round((time.perf_counter() - self._begun) * 1e3, 1)
        self._log.append({"t_ms": elapsed, "dir": direction, "text": text[:4000]})


@dataclass
class Traced:
    """A `MemoryWatch` of traced allocations."""

    grown: int | None = None


def local_launcher(name: str, patience: float = PATIENCE) -> LocalLauncher:
    """The launcher of `python:MODULE:FACTORY`; HostUnavailable if there is no such factory."""
    module, _, factory = name.removeprefix(PREFIX).partition(":")
    try:
        found = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError, ValueError) as error:
        raise HostUnavailable(f"{name} is not there: {error}; give python:MODULE:FACTORY") from None
    if not callable(found):
        raise HostUnavailable(f"{name} is no function that makes a host of a module's bytes")
    return LocalLauncher(name, cast(Factory, found), patience)
