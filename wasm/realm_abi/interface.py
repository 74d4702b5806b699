"""What a module imports and exports, held against the contract: which version it speaks, what is wrong.

Knows no engine: `sandbox` translates wasmtime's types into the plain ones here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from realm_abi.contract import Contract, Function

HEADER_BYTES = 8
MAGIC = b"\0asm"
CORE_VERSION = (1).to_bytes(4, "little")
COMPONENT_LAYER = b"\x01\x00"


LONGEST_NAME, LONGEST_MESSAGE = 80, 600


class ModuleRejected(Exception):
    """A module that cannot be a guest; one line says why, and after a semicolon what to do about it.

    A module's names get into the line, so it is made fit to be shown: printable, and not without end.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, LONGEST_MESSAGE))


def printable(text: str, limit: int = LONGEST_NAME) -> str:
    """A text of unknown origin with control characters escaped, its middle left out where it is too long."""
    if len(text) > limit:
        text = f"{text[: limit // 2]}...{text[-limit // 2 :]}"
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


@dataclass(frozen=True, slots=True)
class Signature:
    """Types of a wasm function, named as in the text format."""

    params: tuple[str, ...]
    results: tuple[str, ...]

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> ({', '.join(self.results)})"


@dataclass(frozen=True, slots=True)
class Imported:
    """An import; `signature` is None for what is no function, and `kind` says what it is."""

    module: str
    name: str
    kind: str
    signature: Signature | None


@dataclass(frozen=True, slots=True)
class Exported:
    """An export; `signature` is None for what is no function, and `kind` says what it is."""

    kind: str
    signature: Signature | None


@dataclass(frozen=True, slots=True)
class Interface:
    """Which version a module speaks (0: none that is known) and all that keeps it from being a guest."""

    version: int
    problems: tuple[str, ...]


def check_size(size: int, limit: int) -> None:
    """Refuses a module of more than `limit` bytes, before anybody reads it."""
    if size > limit:
        raise ModuleRejected(
            f"the module has {size} bytes, more than the limit of {limit}; strip it, or build it smaller"
        )


def check_header(wasm: bytes) -> None:
    """Refuses, before anything is compiled, what is not a core module."""
    if not wasm or wasm[:4] != MAGIC[: len(wasm)]:
        raise ModuleRejected(
            "this is not a WebAssembly binary; give a .wasm file (wat2wasm translates the text format)"
        )
    if len(wasm) < HEADER_BYTES:
        raise ModuleRejected(f"the module is truncated after {len(wasm)} bytes; build or copy it again")
    if wasm[6:8] == COMPONENT_LAYER:
        raise ModuleRejected("this is a component; build a core module (no `wasm-tools component new`)")
    if wasm[4:8] != CORE_VERSION:
        raise ModuleRejected("the module has an unknown binary version; build it for wasm32")


def signature_of(function: Function) -> Signature:
    """The wasm types that the contract gives a function; all of them answer one i32."""
    return Signature(function.wasm_params, ("i32",))


def examine(contract: Contract, imports: Iterable[Imported], exports: Mapping[str, Exported]) -> Interface:
    """Holds a module's imports and exports against the contract."""
    imports = tuple(imports)
    problems = [problem for item in imports for problem in _import_problems(contract, item)]
    spoken = {contract.imports[item.name].version for item in imports if item.name in contract.imports}
    if len(spoken) > 1:
        problems.append(_mixed(contract, imports))
    version = spoken.pop() if len(spoken) == 1 else 0
    if not imports:
        version = _version_by_export(contract, exports)
    if version:
        problems += _export_problems(contract.exports[version], exports)
    elif not problems:
        problems.append("it imports nothing of the contract and exports no generate; build it as a guest")
    return Interface(version, tuple(problems))


def _import_problems(contract: Contract, item: Imported) -> list[str]:
    name = f"{printable(item.module)}.{printable(item.name)}"
    function = contract.imports.get(item.name) if item.module == contract.import_module else None
    if function is None:
        return [f"unknown import {name} ({item.kind}); guests get the imports of the contract and no others"]
    expected = signature_of(function)
    if item.signature != expected:
        found = item.signature or item.kind
        return [f"import {name} has the signature {found} instead of {expected}; use the generated header"]
    return []


def _mixed(contract: Contract, imports: tuple[Imported, ...]) -> str:
    first: dict[int, str] = {}
    for item in imports:
        if item.name in contract.imports:
            first.setdefault(contract.imports[item.name].version, item.name)
    names = " and ".join(f"{name} of v{version}" for version, name in sorted(first.items()))
    return f"it mixes versions of the ABI: it imports {names}; keep to one"


def _version_by_export(contract: Contract, exports: Mapping[str, Exported]) -> int:
    """A module without imports says by the parameters of its `generate` which version it speaks."""
    generate = exports.get("generate")
    for version, functions in contract.exports.items():
        if generate and generate.signature == signature_of(functions["generate"]):
            return version
    return 0


def _export_problems(functions: Mapping[str, Function], exports: Mapping[str, Exported]) -> list[str]:
    problems = []
    memory = exports.get("memory")
    if memory is None or memory.kind != "memory":
        problems.append("it does not export its memory; export it as `memory`")
    for name, function in functions.items():
        found = exports.get(name)
        expected = signature_of(function)
        if found is None:
            if function.required:
                problems.append(
                    f"it does not export {name}; a v{function.version} guest has {name}{expected}"
                )
        elif found.signature != expected:
            shape = found.signature or found.kind
            problems.append(f"export {name} has the signature {shape} instead of {expected}; change its type")
    return problems
