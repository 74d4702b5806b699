"""The guest suite: any guest module against a host without a model, held to the contract of the ABI.

The cases stand in `chapters`. Each runs the guest on a MockHost, which records every call, checks the rules
that hold for every run and does on purpose what hosts do by accident. Needs wasmtime (the extra `guest`) as
soon as a case is loaded or a guest is opened, not before.
"""

from __future__ import annotations

from realm_harness.case import Suite

GUEST = Suite(
    "realm_harness.guestsuite.chapters",
    (
        "load", "prompt", "layers", "trace", "length", "stoptoken", "stopstring", "utf8", "greedy", "sample",
        "filter", "penalty", "seed", "logprob", "draft", "stopped", "fault", "result", "limit", "again",
    ),
)  # fmt: skip
"""The chapters in the order in which they run: what explains most failures of the others comes first."""
