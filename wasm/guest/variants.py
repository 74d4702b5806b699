"""Builds guests with a planted defect each: `python wasm/guest/variants.py FOLDER`, with `variants.json`.

`defects*.toml` say what they are. The edits are made in a copy of the sources, so that those stay clean; an
edit whose place is not there exactly once is an error, for it has outlived the code that it was made for.
What was built stays in `build/variants`, by a digest of all that it was built from.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from build import FLAGS, HERE, LINK_FLAGS, SOURCES, build

KEPT = HERE.parents[1] / "build" / "variants"
INDEX = "variants.json"
PARALLEL = 2


class StaleDefect(Exception):
    """A defect that cannot be planted; the message says which and why."""


@dataclass(frozen=True)
class Variant:
    """One defect in the guest of one version (`v1`, `v2`); `module` is its file in the folder.

    `source` is the number of a defect seen in a system of this kind, or 0; `case` claims to catch it.
    """

    id: str
    what: str
    source: int
    version: str
    case: str
    file: str
    old: str
    new: str

    @property
    def module(self) -> str:
        """The name of the built module."""
        return f"{self.id}-{self.version}.wasm"

    def build(self, bench: Path, folder: Path) -> None:
        """Builds it into `folder` from the sources in `bench`, which stay as they are. Raises StaleDefect."""
        place = bench / self.file
        clean = place.read_text("utf-8")
        if (count := clean.count(self.old)) != 1:
            raise StaleDefect(f"{self.id}: its place is {count} times in {self.file}; write it anew")
        place.write_text(clean.replace(self.old, self.new), "utf-8")
        kept = KEPT / f"{fingerprint(bench, self.version)}.wasm"
        try:
            if not kept.is_file():
                partial = KEPT / f"{self.module}.{os.getpid()}"  # others may build it at the same time
                build(self.version, partial, folder=bench, cache=bench / "cache")
                partial.replace(kept)
            shutil.copyfile(kept, folder / self.module)
        except subprocess.CalledProcessError:
            raise StaleDefect(f"{self.id}: {self.version} does not compile; write it anew") from None
        finally:
            place.write_text(clean, "utf-8")


def fingerprint(bench: Path, version: str) -> str:
    """A name for a module: a digest of the sources as they lie there and of how they are built."""
    how = (version, SOURCES[version], FLAGS, LINK_FLAGS[version], metadata.version("ziglang"))
    digest = hashlib.sha256(repr(how).encode())
    for path in sorted(bench.glob("*.[ch]")):
        digest.update(f"{path.name}\0{path.read_text('utf-8')}\0".encode())
    return digest.hexdigest()


def build_all(chosen: Sequence[Variant], folder: Path) -> None:
    """Builds variants into a folder, some at a time. Raises StaleDefect for the first that cannot be."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(PARALLEL) as pool:

        def work(number: int) -> None:
            bench = Path(scratch) / f"bench{number}"
            shutil.copytree(HERE, bench, ignore=shutil.ignore_patterns("*.py", "*.toml", "__pycache__"))
            for variant in chosen[number::PARALLEL]:
                variant.build(bench, folder)

        for _ in pool.map(work, range(PARALLEL)):
            pass


def variants(wanted: Sequence[str] = ()) -> list[Variant]:
    """All variants, or those of the named defects. Raises StaleDefect for a name that is none."""
    found: list[Variant] = []
    files = sorted(HERE.glob("defects*.toml"))
    for entry in itertools.chain(*(tomllib.loads(file.read_text("utf-8"))["defect"] for file in files)):
        versions = entry.pop("versions")
        source = entry.pop("from", 0)
        found += [Variant(**entry, source=source, version=version) for version in versions]
    unknown = set(wanted) - {variant.id for variant in found}
    if unknown:
        raise StaleDefect(f"unknown defect {sorted(unknown)[0]}; defects*.toml list them")
    return [variant for variant in found if not wanted or variant.id in wanted]


def main() -> None:
    """Builds the variants and writes what they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the modules go")
    parser.add_argument("--defect", action="append", default=[], metavar="ID", help="only these")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        chosen = variants(options.defect)
        build_all(chosen, folder)
    except StaleDefect as stale:
        sys.exit(str(stale))
    index = [asdict(variant) | {"module": variant.module} for variant in chosen]
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
