"""Runs mutants in a process of its own: `worker.py FIRST LAST` for seeds, `worker.py FILE...` for modules.

Prints `run NAME`, then `NAME OUTCOME`, for each, so that whoever started it knows which one ended the
process. The healthy guest runs in between; it must not notice.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from mutate import mutant
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import GuestFault, Limits, ModuleRejected
from realm_mocks.host import Hashed, MockHost, Run

SECONDS = 2.0
EVERY = 50
LIMITS = Limits(memory_bytes=8 << 20, guest_seconds=0.5, grace_seconds=0.1)
PROMPT = "a prompt of some tokens, é and 日本"


def outcome(wasm: bytes) -> str:
    """What becomes of a module: rejected, a fault, an error or an answer. Whatever else it is, is raised."""
    if not wasm:
        return "no text"
    try:
        host = MockHost(wasm, Hashed(2), canaries="memory", limits=LIMITS, context_length=256)
    except ModuleRejected as rejection:
        message = str(rejection)
        if "\n" in message or "; " not in message:
            raise AssertionError(f"no line with a remedy: {message!r}") from None
        return "rejected"
    try:
        with host.instance() as instance:
            # A guest may go on calling its host for ever; that is ended from outside, as any request is.
            timer = threading.Timer(SECONDS, instance.cancel)
            timer.start()
            try:
                return said(instance.generate(PROMPT, max_tokens=8))
            finally:
                timer.cancel()
    except GuestFault as fault:
        return f"does not start: {fault.kind}"


def said(run: Run) -> str:
    """The kind of a run's end. AssertionError if the host wrote where it must not."""
    if run.stains:
        raise AssertionError(f"the host changed other memory: {run.stains[0]}")
    if run.fault:
        return f"fault {run.fault.kind}"
    return f"error {run.error.name}" if run.error else "finished"


def healthy() -> str:
    """What the right guest says beside all this."""
    run = MockHost(guest_bytes("v2"), Hashed(3)).generate(PROMPT, max_tokens=8, temperature=1.0, seed=5)
    return repr(run.check().tokens)


def main(arguments: list[str]) -> None:
    """Runs what the arguments name."""
    files = not arguments[0].isdecimal()
    names = arguments if files else [str(seed) for seed in range(int(arguments[0]), int(arguments[1]))]
    before = healthy()
    for number, name in enumerate(names):
        print(f"run {name}", flush=True)
        print(name, outcome(Path(name).read_bytes() if files else mutant(int(name))), flush=True)
        if number % EVERY == 0 and healthy() != before:
            raise AssertionError("the healthy guest says something else")


if __name__ == "__main__":
    main(sys.argv[1:])
