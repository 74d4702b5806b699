"""The guest suite held to account: the built guests pass, and each guest with a planted defect is caught.

The variants are built from the C sources, so this needs a checkout and the extra `dev`; the build is a
process of its own (`wasm/guest/variants.py`), which leaves modules and an index in a folder.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import realm_abi
from realm_abi.guests import guest_bytes
from realm_mocks.host import load_guest, shared_runtime

from realm_harness.case import load_cases
from realm_harness.conform import judge
from realm_harness.guestsuite import GUEST
from realm_harness.guestsuite.conform import guest_cases
from realm_harness.guestsuite.recording import Recorder, Take
from realm_harness.guestsuite.replay import follows
from realm_harness.guestsuite.subject import GuestSubject
from realm_harness.results import Told, restored
from realm_harness.score import DefectScore, Score

BUILT = ("v1", "v2")
BUILDER = Path(realm_abi.__file__).parents[1] / "guest" / "variants.py"
INDEX = "variants.json"
HANG = 0.5
"""Seconds after which a planted hang counts as one."""
CALLS = 20_000
"""Host calls after which a planted loop counts as endless: five times what the longest request takes."""

DRAWING = frozenset({"sample", "filter", "penalty", "seed"})
"""Chapters that draw thousands of tokens, which is more than half of all work."""
SAMPLERS = ("sampling.", "filter.", "numeric.", "rng.")
"""The guest's sources that those chapters are about."""


class NoVariants(Exception):
    """The variants cannot be built; the message is one line with the remedy."""


@dataclass(frozen=True)
class Variant:
    """A guest with a planted defect, built.

    `claims` is the case that has to catch it. One whose defect is in the loop round the sampling, and not of
    a case that draws, is not `drawn` from anew where it does something else than the healthy guest.
    """

    id: str
    sentence: str
    source: str
    claims: str
    module: Path
    drawn: bool = True


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
    chapter = entry["case"].split("-")[1].lower()
    drawn = entry["file"].startswith(SAMPLERS) or chapter in DRAWING
    return Variant(name, entry["what"], source, entry["case"], folder / entry["module"], drawn)


def _reason(stderr: str) -> str:
    if "No module named ziglang" in stderr:
        return "the variants need a C compiler; install it with: pip install 'realm-harness[dev]'"
    lines = stderr.strip().splitlines()
    return f"the variants cannot be built: {lines[-1] if lines else 'no reason is given'}"


def record_healthy(version: str, globs: Sequence[str], folder: Path) -> list[Told]:
    """What the cases make of a shipped guest; their requests stay in the folder for the variants."""
    recorder = Recorder()
    guest = GuestSubject(
        load_guest(guest_bytes(version), recorder), f"realm_{version}.wasm", runtime=recorder
    )
    results: list[Told] = []
    takes: dict[str, list[Take]] = {}
    for case in guest_cases(guest, globs):
        recorder.takes = []
        result = judge(case, guest)
        results.append(result.told)
        if result.verdict == "ok":
            takes[case.id] = recorder.takes
    record_file(folder, guest).write_bytes(pickle.dumps(takes))
    return results


def record_file(folder: Path, guest: GuestSubject) -> Path:
    """Where the requests to the shipped guest of the same version are."""
    return folder / f"requests-v{guest.version}.pickle"


@functools.cache
def records(path: Path) -> dict[str, list[Take]]:
    """What `record_healthy` left, once a process."""
    found: dict[str, list[Take]] = pickle.loads(path.read_bytes())
    return found


def verdicts_of(variant: Variant, globs: Sequence[str] = (), folder: Path | None = None) -> dict[str, str]:
    """The verdict of each case on a variant, by case id.

    A case in which it does what the shipped guest did is not judged again; `folder` has the records.
    """
    module = load_guest(variant.module, shared_runtime())
    guest = GuestSubject(module, str(variant.module), seconds=HANG, calls=CALLS)
    known = records(record_file(folder, guest)) if folder else {}
    verdicts: dict[str, str] = {}
    for case in guest_cases(guest, globs):
        takes = known.get(case.id)
        same = takes is not None and all(follows(guest.runtime, guest.module, take, HANG) for take in takes)
        if same:
            verdicts[case.id] = "ok"
        elif variant.drawn or not known or case.chapter not in DRAWING:
            verdicts[case.id] = judge(case, guest).verdict
    return verdicts


def workers() -> ProcessPoolExecutor:
    """A process for each core; a fork would copy wasmtime's threads halfway."""
    return ProcessPoolExecutor(os.cpu_count() or 1, mp_context=multiprocessing.get_context("spawn"))


def score_variants(
    variants: Sequence[Variant],
    globs: Sequence[str] = (),
    folder: Path | None = None,
    pool: ProcessPoolExecutor | None = None,
) -> Iterator[DefectScore]:
    """What the cases make of each variant, in order, some at a time in processes of their own."""
    with pool or workers() as running:
        waiting = [running.submit(verdicts_of, variant, globs, folder) for variant in variants]
        for variant, verdicts in zip(variants, waiting, strict=True):
            yield DefectScore(variant, verdicts.result())


def score_guests(
    variants: Sequence[Variant],
    globs: Sequence[str] = (),
    progress: Callable[[DefectScore], None] = lambda score: None,
) -> Score:
    """Score the cases; `progress` is called for each variant, in order."""
    cases = {case.id: case for case in load_cases(globs, GUEST)}
    with tempfile.TemporaryDirectory() as scratch, workers() as pool:
        folder = Path(scratch)
        told = [pool.submit(record_healthy, version, globs, folder) for version in BUILT]
        healthy = [result for version in told for result in restored(cases.values(), version.result())]
        scores = []
        for score in score_variants(variants, globs, folder, pool):
            progress(score)
            scores.append(score)
    asked = {result.case.id for result in healthy}
    return Score([case for case in cases.values() if case.id in asked], healthy, scores)
