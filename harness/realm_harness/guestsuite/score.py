"""The guest suite held to account: the built guests pass, and each guest with a planted defect is caught.

The variants are built from the C sources, so this needs a checkout and the extra `dev`; the build is a
process of its own (`wasm/guest/variants.py`), which leaves modules and an index in a folder.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import realm_abi
from realm_abi.guests import guest_bytes
from realm_mocks.host import load_guest, shared_runtime

from realm_harness.case import Case
from realm_harness.conform import run_cases
from realm_harness.guestsuite.conform import guest_cases, open_guest
from realm_harness.guestsuite.subject import GuestSubject
from realm_harness.results import CaseResult
from realm_harness.score import DefectScore, Score

BUILT = ("v1", "v2")
BUILDER = Path(realm_abi.__file__).parents[1] / "guest" / "variants.py"
INDEX = "variants.json"


class NoVariants(Exception):
    """The variants cannot be built; the message is one line with the remedy."""


@dataclass(frozen=True)
class Variant:
    """A guest with a planted defect, built. `claims` is the case that has to catch it."""

    id: str
    sentence: str
    source: str
    claims: str
    module: Path


def build_variants(folder: Path, wanted: Sequence[str] = ()) -> list[Variant]:
    """Builds the variants, or those of the named defects, into a folder. Raises NoVariants."""
    if not BUILDER.is_file():
        raise NoVariants("the guest's sources are not here; run this in a checkout of realm-harness")
    chosen = [argument for name in wanted for argument in ("--defect", name)]
    built = subprocess.run(
        [sys.executable, str(BUILDER), str(folder), *chosen], capture_output=True, text=True, check=False
    )
    if built.returncode:
        raise NoVariants(_reason(built.stderr))
    return [_variant(folder, entry) for entry in json.loads((folder / INDEX).read_text("utf-8"))]


def _variant(folder: Path, entry: Mapping[str, str]) -> Variant:
    name = f"{entry['id']}-{entry['version']}"
    source = f"realm-defects {entry['source']}" if entry["source"] else "of our own"
    return Variant(name, entry["what"], source, entry["case"], folder / entry["module"])


def _reason(stderr: str) -> str:
    if "No module named ziglang" in stderr:
        return "the variants need a C compiler; install it with: pip install 'realm-harness[dev]'"
    lines = stderr.strip().splitlines()
    return f"the variants cannot be built: {lines[-1] if lines else 'no reason is given'}"


def healthy_guests() -> list[GuestSubject]:
    """The guests that this package ships."""
    return [
        GuestSubject(load_guest(guest_bytes(version), shared_runtime()), f"realm_{version}.wasm")
        for version in BUILT
    ]


def run_healthy(globs: Sequence[str] = ()) -> tuple[list[Case], list[CaseResult]]:
    """All cases that are for one of the shipped guests, and what they make of them."""
    cases: dict[str, Case] = {}
    results: list[CaseResult] = []
    for guest in healthy_guests():
        chosen = guest_cases(guest, globs)
        cases.update({case.id: case for case in chosen})
        results += run_cases(chosen, guest).results
    return list(cases.values()), results


def verdicts_of(module: Path, globs: Sequence[str] = ()) -> dict[str, str]:
    """The verdict of each case on the module in a file, by case id."""
    guest = open_guest(module)
    results = run_cases(guest_cases(guest, globs), guest).results
    return {result.case.id: result.verdict for result in results}


def score_variants(variants: Sequence[Variant], globs: Sequence[str] = ()) -> Iterator[DefectScore]:
    """What the cases make of each variant, in order, some at a time in processes of their own."""
    spawned = multiprocessing.get_context("spawn")  # a fork would copy wasmtime's threads halfway
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=spawned) as pool:
        waiting = [pool.submit(verdicts_of, variant.module, globs) for variant in variants]
        for variant, verdicts in zip(variants, waiting, strict=True):
            yield DefectScore(variant, verdicts.result())


def score_guests(
    variants: Sequence[Variant],
    globs: Sequence[str] = (),
    progress: Callable[[DefectScore], None] = lambda score: None,
) -> Score:
    """Score the cases; `progress` is called for each variant, in order."""
    cases, healthy = run_healthy(globs)
    scores = []
    for score in score_variants(variants, globs):
        progress(score)
        scores.append(score)
    return Score(cases, healthy, scores)
