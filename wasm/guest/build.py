"""Builds the guests with `zig cc` (package ziglang): `python wasm/guest/build.py` writes realm_abi/guests.

Same sources and same ziglang, same bytes: no path, time or environment gets into a module.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
GUESTS = HERE.parent / "realm_abi" / "guests"

COMMON = ("memory", "utf8", "stop", "output", "rng", "numeric", "filter", "sampling")
SOURCES = {"v1": (*COMMON, "json", "loop_v1"), "v2": (*COMMON, "lookup", "drafts", "loop_v2")}

FLAGS = (
    *("-target", "wasm32-freestanding", "-std=c11", "-O3", "-flto", "-ffreestanding", "-nostdlib"),
    *("-msimd128", "-mbulk-memory", "-mnontrapping-fptoint", "-msign-ext"),
    # No fused or reordered arithmetic and no sanitizer: the same bits from every build.
    *("-ffp-contract=off", "-fno-sanitize=all", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"),
    *("-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=65536"),
)
# Realm's host writes the prompt at 1 MiB without asking; there has to be memory.
LINK_FLAGS = {"v1": ("-Wl,--initial-memory=2097152",), "v2": ()}


def build(
    version: str,
    output: Path,
    *,
    defines: Sequence[str] = (),
    extra: Sequence[Path] = (),
    folder: Path = HERE,
    cache: Path | None = None,
) -> None:
    """Builds the guest of one version (`v1`, `v2`) into `output`.

    `defines` are preprocessor names, `extra` further C files, `folder` where the sources lie: what makes a
    variant of a guest. `cache` keeps what is compiled, for further builds in the same folder. Raises
    subprocess.CalledProcessError if the compiler refuses, with its messages on stderr.
    """
    sources = [f"{name}.c" for name in SOURCES[version]]
    link_flags = LINK_FLAGS[version]
    compile_guest(
        sources, output, link_flags=link_flags, defines=defines, extra=extra, folder=folder, cache=cache
    )


def compile_guest(
    sources: Sequence[str],
    output: Path,
    *,
    link_flags: Sequence[str] = (),
    defines: Sequence[str] = (),
    extra: Sequence[Path] = (),
    folder: Path = HERE,
    cache: Path | None = None,
) -> None:
    """Compiles C files of a folder, by name, and `extra` ones into one module."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": scratch,
            "ZIG_GLOBAL_CACHE_DIR": str(cache or scratch),
            "ZIG_LOCAL_CACHE_DIR": str(cache or scratch),
        }
        built = Path(scratch) / "guest.wasm"
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *link_flags, "-I."]
        command += [f"-D{name}" for name in defines]
        command += [*sources, *map(str, extra), "-o", str(built)]
        subprocess.run(command, cwd=folder, env=environment, check=True)
        output.write_bytes(built.read_bytes())


def main() -> None:
    """Builds all guests into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=GUESTS, help="default: the package")
    folder: Path = parser.parse_args().folder
    for version in SOURCES:
        output = folder / f"realm_{version}.wasm"
        build(version, output)
        print(f"{output.name}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
