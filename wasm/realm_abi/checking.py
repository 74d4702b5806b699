"""What `realm abi check` finds in a module: its version, its imports and exports, all that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import wasmtime

from realm_abi.contract import Contract, load_contract
from realm_abi.interface import (
    Exported,
    Imported,
    ModuleRejected,
    check_header,
    check_size,
    examine,
)
from realm_abi.sandbox import Runtime, surface

MAX_MODULE_BYTES = 64 << 20

# Without these a guest of a version can be loaded, but not be of use.
NEEDED = {
    1: (
        *("realm_encode_tokens", "realm_embed_tokens", "realm_forward_layer", "realm_compute_logits"),
        *("realm_decode_tokens", "realm_stream_token"),
    ),
    2: (
        *("realm_encode", "realm_session_open", "realm_session_free", "realm_forward", "realm_decode"),
        "realm_emit",
    ),
}
WHOLE_LOOP = "realm_host_generate"


@dataclass(frozen=True, slots=True)
class Report:
    """What was found: `problems` keep the module from being loaded, `remarks` do not."""

    version: int
    size: int
    imports: tuple[Imported, ...]
    exports: Mapping[str, Exported]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]


def check_module(path: Path) -> Report:
    """Holds a module to the contract. Raises ModuleRejected for a file that is no core module at all."""
    contract = load_contract()
    wasm = _read(path)
    module, refusal = _compiled(wasm)
    imports, exports = surface(module)
    interface = examine(contract, imports, exports)
    problems = interface.problems
    if refusal and refusal not in problems:
        problems = (*problems, refusal)
    remarks = tuple(_remarks(contract, interface.version, {item.name for item in imports}, exports))
    return Report(interface.version, len(wasm), tuple(imports), exports, problems, remarks)


def _read(path: Path) -> bytes:
    try:
        check_size(path.stat().st_size, MAX_MODULE_BYTES)
        wasm = path.read_bytes()
    except OSError as error:
        raise ModuleRejected(f"{path} cannot be read: {error.strerror}; check the path") from None
    check_header(wasm)
    return wasm


def _compiled(wasm: bytes) -> tuple[wasmtime.Module, str]:
    """The module, and why the sandbox refuses it: for its interface, or for a proposal that it uses."""
    try:
        return Runtime().compile(wasm).compiled, ""
    except ModuleRejected as error:
        rejected = error
    try:
        return wasmtime.Module(wasmtime.Engine(), wasm), str(rejected)
    except wasmtime.WasmtimeError:
        raise rejected from None


def _remarks(
    contract: Contract, version: int, imported: Set[str], exports: Mapping[str, Exported]
) -> list[str]:
    if not version:
        return []
    remarks = []
    missing = [name for name in NEEDED[version] if name not in imported]
    if missing and WHOLE_LOOP not in imported:
        remarks.append(f"it does not import {', '.join(missing)}: no generation loop can do without")
    functions = contract.exports[version].values()
    optional = [item.name for item in functions if not item.required and item.name not in exports]
    if optional:
        remarks.append(f"it does not export {', '.join(optional)}: the host writes the prompt at 1 MiB")
    return remarks
