"""Writes what derives from the contract: run `python -m realm_abi.generate` after contract.toml changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from realm_abi.contract import Code, Contract, Function, load_contract
from realm_abi.page import reference_page
from realm_abi.structs import Struct

PACKAGE = Path(__file__).resolve().parent
C_TYPES: Mapping[str, str] = {"u8": "uint8_t", "u32": "uint32_t", "u64": "uint64_t", "f32": "float"}

HEADER_HEAD = """\
/* Generated from contract.toml by `python -m realm_abi.generate`; edit that file instead.
 *
 * The guest's side of the ABI: error codes, structs, imports. All imports live in the module "{module}" and
 * answer a value >= 0 or one of the error codes. Pointers are offsets into the guest's exported memory.
 */
#ifndef REALM_ABI_H
#define REALM_ABI_H

#include <stddef.h>
#include <stdint.h>

#define REALM_IMPORT(name) __attribute__((import_module("{module}"), import_name(#name))) extern
#define REALM_EXPORT(name) __attribute__((export_name(#name)))
"""


def c_header(contract: Contract) -> str:
    """The C header: codes, flags, structs with their layout asserted, imports of all versions."""
    parts = [HEADER_HEAD.replace("{module}", contract.import_module)]
    parts.append(_c_enum("realm_error", "REALM_E_", contract.errors))
    parts.append(_c_enum("realm_finish", "REALM_FINISH_", contract.finish_reasons))
    parts += [_c_struct(struct) for struct in contract.structs.values()]
    for version in contract.versions:
        functions = "\n".join(_c_import(function) for function in contract.imports_of(version))
        parts.append(f"/* ABI v{version} */\n\n{functions}")
    parts.append("#endif\n")
    return "\n".join(parts)


def _c_enum(name: str, prefix: str, codes: tuple[Code, ...]) -> str:
    lines = [f"  {prefix}{code.name.upper()} = {code.code}, /* {code.doc} */" for code in codes]
    return "\n".join([f"enum {name} {{", *lines, "};", ""])


def _c_struct(struct: Struct) -> str:
    lines = [f"/* {struct.doc} */", "typedef struct {"]
    lines += [f"  {C_TYPES[field.type]} {field.name}; /* {field.doc} */" for field in struct.fields]
    lines.append(f"}} {struct.name};")
    lines += [
        f'_Static_assert(offsetof({struct.name}, {field.name}) == {field.offset}, "layout of {struct.name}");'
        for field in struct.fields
    ]
    lines.append(f'_Static_assert(sizeof({struct.name}) == {struct.size}, "size of {struct.name}");')
    lines += _c_flags(struct.name, struct.flags)
    return "\n".join([*lines, ""])


def _c_import(function: Function) -> str:
    types = {"i32": "uint32_t", "f32": "float"}
    params = ", ".join(
        f"{types[wasm]} {name}" for name, wasm in zip(function.signature, function.wasm_params, strict=True)
    )
    lines = [
        f"/* {function.doc}",
        f" * Answers {function.result_doc}, or: {', '.join(function.errors)}. */",
        f"REALM_IMPORT({function.name}) int32_t {function.name}({params or 'void'});",
    ]
    for param in function.params:
        lines += _c_flags(function.name.removeprefix("realm_"), param.bits)
    return "\n".join([*lines, ""])


def _c_flags(owner: str, flags: tuple[str, ...]) -> list[str]:
    return [f"#define REALM_{owner.upper()}_{flag.upper()} {1 << bit}u" for bit, flag in enumerate(flags)]


def python_errors(contract: Contract) -> str:
    """The module `realm_abi.errors`."""

    def members(codes: tuple[Code, ...]) -> str:
        return "\n\n".join(f'    {code.name} = {code.code}\n    """{code.doc}"""' for code in codes)

    return f'''"""Generated from contract.toml by `python -m realm_abi.generate`; edit that file instead."""

from enum import IntEnum


class ErrorCode(IntEnum):
    """What an import, or a v2 guest's `generate`, answers when it fails."""

{members(contract.errors)}


class FinishReason(IntEnum):
    """What a v2 guest's `generate` answers when it succeeds."""

{members(contract.finish_reasons)}


class AbiError(Exception):
    """A failure with a code of the contract; a host function raises it to answer the guest with that code."""

    def __init__(self, code: ErrorCode, detail: str = "") -> None:
        super().__init__(f"{{code.name}}: {{detail}}" if detail else code.name)
        self.code = code
        self.detail = detail
'''


GENERATED: Mapping[Path, Callable[[Contract], str]] = {
    PACKAGE / "errors.py": python_errors,
    PACKAGE.parent / "guest" / "realm_abi.h": c_header,
    PACKAGE.parents[1] / "docs" / "abi.md": reference_page,
}


def main() -> None:
    """Writes the C header, the error enum and the reference page."""
    contract = load_contract()
    for path, render in GENERATED.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(render(contract), encoding="utf-8")


if __name__ == "__main__":
    main()
