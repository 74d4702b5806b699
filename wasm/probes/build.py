"""Builds the probe guests: `python wasm/probes/build.py` writes realm_abi/guests/probe_v*.wasm.

The table of imports is written from the contract, so that a probe can call all of them. As with the guests:
same sources, same bytes.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from realm_abi.contract import Function, load_contract

HERE = Path(__file__).resolve().parent
GUESTS = HERE.parent / "realm_abi" / "guests"
SOURCES = ("script", "watch", "misbehave")
# Realm's host writes the prompt at 1 MiB without asking; there has to be memory.
LINK_FLAGS = ("-Wl,--initial-memory=6291456",)


def build(version: int, output: Path) -> None:
    """Builds the probe of one version of the ABI; fails as the guests' build does."""
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "imports.c"
        table.write_text(imports_table(load_contract().imports_of(version)), "utf-8")
        own = [HERE / f"{name}.c" for name in (*SOURCES, f"probe_v{version}")]
        _guest_build().compile_guest(["memory.c"], output, link_flags=LINK_FLAGS, extra=[*own, table])


def imports_table(functions: Sequence[Function]) -> str:
    """C: the names of imports, and a function that calls one by its number with raw u32 arguments."""
    names = ", ".join(f'"{function.name}"' for function in functions)
    cases = "\n".join(
        f"    case {number}: return {function.name}({_arguments(function)});"
        for number, function in enumerate(functions)
    )
    return f"""#include "realm_abi.h"
const char *const probe_names[] = {{{names}}};
const uint32_t probe_count = {len(functions)};
static float as_float(uint32_t bits) {{ union {{ uint32_t u; float f; }} both = {{bits}}; return both.f; }}
int32_t probe_call(uint32_t which, const uint32_t *a) {{
  (void)as_float;
  switch (which) {{
{cases}
    default: return 0;
  }}
}}
"""


def _arguments(function: Function) -> str:
    kinds = enumerate(function.wasm_params)
    return ", ".join(f"as_float(a[{place}])" if kind == "f32" else f"a[{place}]" for place, kind in kinds)


def _guest_build() -> ModuleType:
    """wasm/guest/build.py, which is a script and no package."""
    spec = importlib.util.spec_from_file_location("realm_guest_build", HERE.parent / "guest" / "build.py")
    if spec is None or spec.loader is None:
        raise ImportError("wasm/guest/build.py is not beside this folder")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Builds both probes into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=GUESTS, help="default: the package")
    folder: Path = parser.parse_args().folder
    for version in load_contract().versions:
        output = folder / f"probe_v{version}.wasm"
        build(version, output)
        print(f"{output.name}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
