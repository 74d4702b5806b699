"""The contract as frozen data: what `contract.toml` says, checked once when it is loaded.

The file's head explains its vocabulary. Everything that has to know the ABI (the guard, the sandbox, the
generated C header and error enum, the mocks) asks here and holds no copy.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from realm_abi.structs import FORMATS, Array, Field, Struct, element_size

Term = str | int
Kind = Literal["u32", "f32", "flags", "handle", "text", "in", "out", "struct"]

KINDS = frozenset(("u32", "f32", "flags", "handle", "text", "in", "out", "struct"))
RESULTS = frozenset(("zero", "count", "bytes", "handle", "stop", "pointer", "finish", "any"))
TERMS = frozenset(("count", "exactly", "multiple_of", "at_most", "at_least"))


class ContractError(ValueError):
    """The contract file contradicts itself; the message says where."""


@dataclass(frozen=True, slots=True)
class Code:
    """A named number with its meaning: an error or a finish reason."""

    name: str
    code: int
    doc: str


@dataclass(frozen=True, slots=True)
class Param:
    """One value that a function takes, and the raw wasm parameters that carry it."""

    name: str
    kind: Kind
    raw: tuple[str, ...]
    element: str = "u8"
    unit: Literal["elements", "bytes"] = "elements"
    align: int = 0
    count: tuple[Term, ...] = ()
    exactly: tuple[Term, ...] = ()
    multiple_of: tuple[Term, ...] = ()
    at_most: tuple[Term, ...] = ()
    at_least: tuple[Term, ...] = ()
    of: str = ""
    zero: bool = False
    bits: tuple[str, ...] = ()
    struct: str = ""
    nullable: bool = False

    @property
    def is_window(self) -> bool:
        """Whether the value is a piece of guest memory."""
        return self.kind in ("text", "in", "out")

    @property
    def alignment(self) -> int:
        """What the window's pointer is a multiple of, in bytes."""
        return self.align or element_size(self.element)

    def terms(self) -> tuple[Term, ...]:
        """All that this parameter's size and relations are computed from."""
        return (*self.count, *self.exactly, *self.multiple_of, *self.at_most, *self.at_least)

    def errors(self) -> set[str]:
        """Names of the errors that the guard can answer for this parameter."""
        found = set[str]()
        if self.is_window or self.kind == "struct":
            found.add("out_of_bounds")
        if self.kind == "struct" or (self.is_window and self.alignment > 1):
            found.add("misaligned")
        if self.kind == "text":
            found.add("invalid_utf8")
        if self.kind == "handle":
            found.add("invalid_handle")
        if self.at_least:
            found.add("buffer_too_small")
        if self.kind == "flags" or self.exactly or self.multiple_of or self.at_most:
            found.add("invalid_argument")
        return found


@dataclass(frozen=True, slots=True)
class Function:
    """An import (the host's) or an export (the guest's)."""

    name: str
    version: int
    doc: str
    params: tuple[Param, ...]
    result: str
    result_doc: str
    errors: tuple[str, ...]
    signature: tuple[str, ...]
    required: bool = True
    cleanup: bool = False

    @property
    def wasm_params(self) -> tuple[str, ...]:
        """The wasm types of the raw parameters, `i32` or `f32`."""
        floats = {name for param in self.params if param.kind == "f32" for name in param.raw}
        return tuple("f32" if name in floats else "i32" for name in self.signature)

    @property
    def dimensions(self) -> frozenset[str]:
        """Names of the model's dimensions that the guard has to know to check a call."""
        known = {param.name for param in self.params}
        names = {term for param in self.params for term in param.terms() if isinstance(term, str)}
        return frozenset(names - known)

    def param(self, name: str) -> Param:
        """The parameter of that name; KeyError if there is none."""
        for param in self.params:
            if param.name == name:
                return param
        raise KeyError(f"{self.name} has no parameter {name}")


@dataclass(frozen=True, slots=True)
class Contract:
    """Everything that guest and host agree on, for all versions."""

    import_module: str
    page_bytes: int
    errors: tuple[Code, ...]
    finish_reasons: tuple[Code, ...]
    structs: Mapping[str, Struct]
    imports: Mapping[str, Function]
    exports: Mapping[int, Mapping[str, Function]]

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions of the ABI, oldest first."""
        return tuple(sorted(self.exports))

    def imports_of(self, version: int) -> tuple[Function, ...]:
        """The imports of one version, in the order of the file."""
        return tuple(function for function in self.imports.values() if function.version == version)


@functools.cache
def load_contract() -> Contract:
    """The contract that this package ships. Raises ContractError if the file contradicts itself."""
    return parse_contract(resources.files("realm_abi").joinpath("contract.toml").read_text("utf-8"))


def parse_contract(text: str) -> Contract:
    """Reads and checks a contract. Raises ContractError with the place of the first contradiction."""
    try:
        data = tomllib.loads(text)
        structs = {name: _struct(name, entry) for name, entry in data["structs"].items()}
        errors = _codes(data["errors"])
        imports = [_function(entry, structs, errors, is_import=True) for entry in data["imports"]]
        exports = [_function(entry, structs, errors, is_import=False) for entry in data["exports"]]
        by_version: dict[int, dict[str, Function]] = {}
        for function in exports:
            _add(by_version.setdefault(function.version, {}), function)
        by_name: dict[str, Function] = {}
        for function in imports:
            _add(by_name, function)
        return Contract(
            import_module=data["contract"]["import_module"],
            page_bytes=data["contract"]["page_bytes"],
            errors=errors,
            finish_reasons=_codes(data["finish_reasons"]),
            structs=structs,
            imports=by_name,
            exports=by_version,
        )
    except KeyError as error:
        raise ContractError(f"the contract lacks {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"the contract is not TOML: {error}") from None


def _add(functions: dict[str, Function], function: Function) -> None:
    if function.name in functions:
        raise ContractError(f"{function.name} is there twice")
    functions[function.name] = function


def _codes(table: Mapping[str, Any]) -> tuple[Code, ...]:
    codes = tuple(Code(name, entry["code"], entry["doc"]) for name, entry in table.items())
    if len({code.code for code in codes}) != len(codes):
        raise ContractError(f"a code stands for two of {', '.join(table)}")
    return codes


def _struct(name: str, entry: Mapping[str, Any]) -> Struct:
    fields = tuple(Field(**field) for field in entry["fields"])
    arrays = tuple(Array(**array) for array in entry.get("arrays", ()))
    struct = Struct(
        name, entry["version"], entry["size"], entry["doc"], fields, tuple(entry.get("flags", ())), arrays
    )
    end = 0
    for field in fields:
        if field.type not in FORMATS:
            raise ContractError(f"{name}.{field.name} has the unknown type {field.type}")
        size = element_size(field.type)
        if field.offset != -(-end // size) * size:
            raise ContractError(f"{name}.{field.name} is at {field.offset}, where C does not put it")
        end = field.offset + size
    if struct.size != -(-end // struct.alignment) * struct.alignment:
        raise ContractError(f"{name} does not take {struct.size} bytes")
    for array in arrays:
        if not {array.pointer, array.count} <= {field.name for field in fields}:
            raise ContractError(f"{name}.{array.name} names a field that is not there")
    return struct


def _function(
    entry: Mapping[str, Any], structs: Mapping[str, Struct], codes: tuple[Code, ...], *, is_import: bool
) -> Function:
    name = entry["name"]
    params = tuple(_param(name, param, structs) for param in entry["params"])
    carried = [raw for param in params for raw in param.raw]
    signature = tuple(entry.get("signature", carried))
    if sorted(signature) != sorted(carried) or len(set(carried)) != len(carried):
        raise ContractError(f"{name}: the signature and the parameters name different things")
    if entry["result"]["kind"] not in RESULTS:
        raise ContractError(f"{name}: unknown result {entry['result']['kind']}")
    answers = set(entry.get("errors", ())).union(*(param.errors() for param in params))
    if is_import:
        answers |= {"cancelled", "unsupported", "internal"}
    known = [code.name for code in codes]
    if not answers <= set(known):
        raise ContractError(f"{name}: unknown error {', '.join(sorted(answers - set(known)))}")
    return Function(
        name=name,
        version=entry["version"],
        doc=entry["doc"],
        params=params,
        result=entry["result"]["kind"],
        result_doc=entry["result"]["doc"],
        errors=tuple(code for code in known if code in answers),
        signature=signature,
        required=entry.get("required", True),
        cleanup=entry.get("cleanup", False),
    )


def _param(function: str, entry: Mapping[str, Any], structs: Mapping[str, Struct]) -> Param:
    place = f"{function}.{entry['name']}"
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    for key in TERMS & values.keys():
        values[key] = tuple(structs[term].size if term in structs else term for term in values[key])
    try:
        param = Param(**values)
    except TypeError as error:
        raise ContractError(f"{place}: {error}") from None
    if param.kind not in KINDS:
        raise ContractError(f"{place} has the unknown kind {param.kind}")
    if param.element not in FORMATS:
        raise ContractError(f"{place} has the unknown element {param.element}")
    if param.kind == "struct" and param.struct not in structs:
        raise ContractError(f"{place} is of the unknown struct {param.struct}")
    expected = (1 if param.count else 2) if param.is_window else 1
    if len(param.raw) != expected:
        raise ContractError(f"{place} is carried by {len(param.raw)} raw parameters instead of {expected}")
    return param
