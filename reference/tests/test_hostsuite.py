"""The host suite on the reference: each probe in a `realm serve` of its own, reached over HTTP."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from realm_harness.conform import run_cases
from realm_harness.hostsuite.conform import host_cases, launcher_of, open_host
from realm_harness.hostsuite.subject import Settings

SERVE = "from realm_reference.commands import serve; serve()"


def test_the_reference_keeps_the_contract_over_http(make_gguf: Callable[..., Path]) -> None:
    model = make_gguf({"llama.context_length": 8192})
    words = [sys.executable, "-c", SERVE, "--http", "--http-port", "{port}", "--model", str(model)]
    words += ["--guest-timeout", "1"]  # guests that loop are waited for
    command = shlex.join([*words, "--wasm", "{module}"])
    with open_host(launcher_of(command), Settings(calls=20_000)) as subject:
        run = run_cases(host_cases(), subject)
    told = {result.case.id: result.message for result in run.results if result.verdict != "ok"}
    assert set(told) == {"HOST-DRAFT-IDS-001"}, told
    assert run.as_json()["target"]["abi_versions"] == [1, 2]
