"""The contract as frozen data: what `contract.toml` says, checked once when it is loaded.

The file's head explains its vocabulary. Everything that has to know the ABI (the guard, the sandbox, the
generated C header, error enum and reference page, the mocks) asks here and holds no copy.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from realm_abi._contract_data import Code, Contract, Function, Kind, Param, Rule, Term, product
from realm_abi.structs import FORMATS, Array, Field, Struct, element_size

__all__ = [
    "Code",
    "Contract",
    "ContractError",
    "Function",
    "Kind",
    "Param",
    "Rule",
    "Term",
    "load_contract",
    "parse_contract",
    "product",
]

KINDS = frozenset(("u32", "f32", "flags", "handle", "text", "in", "out", "struct"))
RESULTS = frozenset(("zero", "count", "bytes", "handle", "stop", "pointer", "finish", "any"))
TERMS = frozenset(("count", "exactly", "multiple_of", "at_most", "at_least"))
HANDLES = frozenset(("model", "session"))
DIMENSIONS = frozenset(("hidden_size", "vocab_size"))
NOT_AT_CLEANUP = frozenset(("cancelled", "limit_exceeded"))
FUNCTION_KEYS = frozenset(
    (
        *("name", "version", "doc", "params", "signature", "result", "errors"),
        *("owns", "unchanged", "blocks", "cleanup", "required"),
    )
)


class ContractError(ValueError):
    """The contract file contradicts itself; the message says where."""


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
        any_import = data["any_import"]
        imports = [_function(entry, structs, errors, any_import) for entry in data["imports"]]
        exports = [_function(entry, structs, errors, None) for entry in data["exports"]]
        by_version: dict[int, dict[str, Function]] = {}
        for function in exports:
            _add(by_version.setdefault(function.version, {}), function)
        by_name: dict[str, Function] = {}
        for function in imports:
            _add(by_name, function)
        return Contract(
            import_module=data["contract"]["import_module"],
            page_bytes=data["contract"]["page_bytes"],
            rules=tuple(Rule(entry["name"], _sentence("a rule", entry["doc"])) for entry in data["rules"]),
            any_import=any_import,
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
    entry: Mapping[str, Any],
    structs: Mapping[str, Struct],
    codes: tuple[Code, ...],
    any_import: Mapping[str, str] | None,
) -> Function:
    """An import, or with `any_import` None an export."""
    name = entry["name"]
    if unknown := entry.keys() - FUNCTION_KEYS:
        raise ContractError(f"{name} has the unknown key {', '.join(sorted(unknown))}")
    params = tuple(_param(name, param, structs) for param in entry["params"])
    carried = [raw for param in params for raw in param.raw]
    signature = tuple(entry.get("signature", carried))
    if sorted(signature) != sorted(carried) or len(set(carried)) != len(carried):
        raise ContractError(f"{name}: the signature and the parameters name different things")
    if entry["result"]["kind"] not in RESULTS:
        raise ContractError(f"{name}: unknown result {entry['result']['kind']}")
    _check_terms(name, params)
    if any_import and entry.get("cleanup"):
        any_import = {code: sentence for code, sentence in any_import.items() if code not in NOT_AT_CLEANUP}
    conditions = _conditions(name, params, entry.get("errors", {}), any_import)
    known = [code.name for code in codes]
    if not conditions.keys() <= set(known):
        raise ContractError(f"{name}: unknown error {', '.join(sorted(conditions.keys() - set(known)))}")
    answers = tuple(code for code in known if code in conditions)
    return Function(
        name=name,
        version=entry["version"],
        doc=_sentence(name, entry["doc"]),
        params=params,
        result=entry["result"]["kind"],
        result_doc=entry["result"]["doc"],
        errors=answers,
        signature=signature,
        required=entry.get("required", True),
        cleanup=entry.get("cleanup", False),
        blocks=entry.get("blocks", False),
        conditions=tuple(conditions[code] for code in answers),
        owns=entry.get("owns", ""),
        unchanged=entry.get("unchanged", ""),
    )


def _conditions(
    name: str, params: tuple[Param, ...], own: Mapping[str, str], any_import: Mapping[str, str] | None
) -> dict[str, str]:
    """When each code is answered: what the guard checks, then what the host or guest says of itself."""
    if not isinstance(own, Mapping):
        raise ContractError(f"{name}: errors is a table of codes, each with the sentence that says when")
    found: dict[str, list[str]] = {}
    if any_import is not None:
        for param in params:
            for code, sentence in param.refusals().items():
                found.setdefault(code, []).append(sentence)
    for code, sentence in own.items():
        found.setdefault(code, []).append(_sentence(f"{name}: {code}", sentence))
    for code, sentence in (any_import or {}).items():
        if code not in own:
            found.setdefault(code, []).append(_sentence(f"any_import: {code}", sentence))
    return {code: " ".join(sentences) for code, sentences in found.items()}


def _sentence(place: str, text: str) -> str:
    if not text.endswith("."):
        raise ContractError(f"{place} is no sentence: {text!r}")
    return text


def _check_terms(name: str, params: tuple[Param, ...]) -> None:
    """Sizes follow from parameters, or from the dimensions of a model that a handle before them names."""
    names = {param.name for param in params}
    for index, param in enumerate(params):
        words = {term for term in param.terms() if isinstance(term, str)}
        if unknown := words - names - DIMENSIONS:
            raise ContractError(f"{name}.{param.name} depends on the unknown {', '.join(sorted(unknown))}")
        if words & DIMENSIONS and not any(before.kind == "handle" for before in params[:index]):
            raise ContractError(f"{name}.{param.name} depends on a model that no handle before it names")
        later = names - {before.name for before in params[:index]}
        if param.count and later & words:
            raise ContractError(f"{name}.{param.name} has its size from a parameter that comes later")


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
    if param.kind == "handle" and param.of not in HANDLES:
        raise ContractError(f"{place} is a handle of the unknown {param.of or 'nothing'}")
    if (param.kind == "flags") != bool(param.bits):
        raise ContractError(f"{place}: flags have bits, and nothing else does")
    expected = (1 if param.count else 2) if param.is_window else 1
    if len(param.raw) != expected:
        raise ContractError(f"{place} is carried by {len(param.raw)} raw parameters instead of {expected}")
    return param
