"""The contract in words, as Markdown: for the reference page and for `realm abi show`."""

from __future__ import annotations

from collections.abc import Iterable

from realm_abi.contract import Code, Contract, Function, Param, product
from realm_abi.structs import Struct

ELEMENTS = {"u8": "bytes", "u32": "u32", "u64": "u64", "f32": "f32"}


def wat_signature(function: Function) -> str:
    """The function's type as the text format writes it, with the names of its parameters."""
    typed = zip(function.signature, function.wasm_params, strict=True)
    params = "".join(f" (param ${name} {wasm})" for name, wasm in typed)
    return f"(func ${function.name}{params} (result i32))"


def wat_import(contract: Contract, function: Function) -> str:
    """The line that imports a function."""
    return f'(import "{contract.import_module}" "{function.name}" {wat_signature(function)})'


def wat_export(function: Function) -> str:
    """The beginning of the function that a guest exports under this name."""
    typed = wat_signature(function).removesuffix(")")
    return typed.replace(f"${function.name}", f'(export "{function.name}")')


def param_sentence(param: Param) -> str:
    """What a parameter is, how long and how aligned, and what it has to agree with."""
    parts = [_shape(param)]
    if param.is_window and param.alignment > 1:
        parts.append(f"{param.raw[0]} is a multiple of {param.alignment}")
    if param.exactly:
        parts.append(f"{param.raw[-1]} is exactly {product(param.exactly)}")
    if param.multiple_of:
        parts.append(f"{param.raw[-1]} is a multiple of {product(param.multiple_of)}")
    if param.at_least:
        parts.append(f"{param.raw[-1]} is at least {product(param.at_least)}")
    if param.at_most:
        parts.append(f"at most the elements of `{product(param.at_most)}`")
    if param.doc:
        parts.append(param.doc)
    return "; ".join(parts)


def _shape(param: Param) -> str:
    if param.kind == "text":
        return f"read: UTF-8, {param.raw[1]} bytes, no terminator"
    if param.is_window:
        verb = "read" if param.kind == "in" else "written"
        if param.count:
            return f"{verb}: {product(param.count)} x {ELEMENTS[param.element]}"
        if param.unit == "bytes":
            return f"{verb}: {ELEMENTS[param.element]}, and {param.raw[1]} counts bytes"
        if param.element == "u8":
            return f"{verb}: {param.raw[1]} bytes"
        return f"{verb}: {ELEMENTS[param.element]}, and {param.raw[1]} counts elements of 4 bytes"
    if param.kind == "flags":
        return "bits: " + ", ".join(f"{1 << bit} {name}" for bit, name in enumerate(param.bits))
    if param.kind == "handle":
        return f"handle of a {param.of}"
    if param.kind == "struct":
        return f"pointer to a {param.struct}" + (", or 0 for its defaults" if param.nullable else "")
    return param.kind


def function_lines(contract: Contract, function: Function, *, is_import: bool) -> list[str]:
    """Everything about a function: type, parameters in the order of their checks, answers, errors."""
    wat = wat_import(contract, function) if is_import else f"{wat_export(function)} ...)"
    lines = ["```wat", wat, "```", "", function.doc, ""]
    if function.params:
        lines += ["| parameter | is |", "|---|---|"]
        lines += [f"| {', '.join(param.raw)} | {param_sentence(param)} |" for param in function.params]
        lines.append("")
    lines.append(f"**Answers** {function.result_doc}.")
    lines += _notes(function)
    return lines + _error_lines(contract, function)


def _error_lines(contract: Contract, function: Function) -> list[str]:
    """A table of a function's own errors, then the names of those that any import may answer."""
    numbers = {code.name: code.code for code in contract.errors}
    when = dict(zip(function.errors, function.conditions, strict=True))
    own = {name: sentence for name, sentence in when.items() if contract.any_import.get(name) != sentence}
    lines = []
    if own:
        lines += ["", "| error | when |", "|---|---|"]
        lines += [f"| {numbers[name]} {name} | {sentence} |" for name, sentence in own.items()]
    common = [name for name in when if name not in own]
    if common:
        lines += ["", f"{'Besides' if own else 'Errors'}, as any import: {', '.join(common)}."]
    return lines


def _notes(function: Function) -> list[str]:
    notes = []
    if function.dimensions:
        notes.append("The handle is looked up at its place in the list: sizes follow from its model.")
    if function.owns:
        notes.append(f"**Ownership:** {function.owns}")
    if function.unchanged:
        notes.append(f"**On failure:** {function.unchanged}")
    if function.blocks:
        notes.append("It may wait; that time is not the guest's.")
    if function.cleanup:
        notes.append("It works after a cancellation too.")
    return [line for note in notes for line in ("", note)]


def struct_lines(struct: Struct) -> list[str]:
    """A struct's fields with their offsets."""
    lines = [f"{struct.doc} {struct.size} bytes, {struct.alignment}-aligned.", ""]
    lines += ["| offset | field | type | default | is |", "|---|---|---|---|---|"]
    lines += [
        f"| {field.offset} | {field.name} | {field.type} | {_default(field.default)} | {field.doc} |"
        for field in struct.fields
    ]
    if struct.flags:
        bits = ", ".join(f"{1 << bit} {flag}" for bit, flag in enumerate(struct.flags))
        lines += ["", f"Bits of `flags`: {bits}."]
    return lines


def _default(value: float) -> str:
    return "0xffffffff" if value == 0xFFFF_FFFF else f"{value}"


def code_lines(codes: Iterable[Code]) -> list[str]:
    """A table of errors or finish reasons."""
    return ["| code | name | means |", "|---|---|---|"] + [
        f"| {code.code} | {code.name} | {code.doc} |" for code in codes
    ]


def overview_lines(contract: Contract) -> list[str]:
    """All names, a line each, in the order of the file."""
    lines: list[str] = []
    for version in contract.versions:
        lines.append(f'ABI v{version}, what a guest may import from "{contract.import_module}":')
        lines += [f"  {wat_signature(function)}" for function in contract.imports_of(version)]
        lines.append(f"ABI v{version}, what a guest exports, beside its `memory`:")
        for function in contract.exports[version].values():
            lines.append(f"  {wat_signature(function)}" + ("" if function.required else "  ;; optional"))
    lines.append("Structs: " + ", ".join(contract.structs))
    lines.append("Errors: " + ", ".join(f"{code.code} {code.name}" for code in contract.errors))
    lines.append(
        "Finish reasons: " + ", ".join(f"{code.code} {code.name}" for code in contract.finish_reasons)
    )
    lines.append("Rules: " + ", ".join(rule.name for rule in contract.rules))
    return lines


def named_lines(contract: Contract, name: str) -> list[str]:
    """What goes by a name: import, exports, struct, code, rule, one after the other. KeyError for nothing."""
    sections: list[list[str]] = []
    if name in contract.imports:
        function = contract.imports[name]
        sections.append([f"# {name} (import, v{function.version})", ""])
        sections[-1] += function_lines(contract, function, is_import=True)
    for version, functions in contract.exports.items():
        if name in functions:
            head = [f"# {name} (export, v{version})", ""]
            sections.append(head + function_lines(contract, functions[name], is_import=False))
    if name in contract.structs:
        sections.append([f"# {name} (struct)", "", *struct_lines(contract.structs[name])])
    sections += [
        [f"# {code.code} {code.name}", "", code.doc, *_answered_by(contract, code.name)]
        for code in (*contract.errors, *contract.finish_reasons)
        if name in (code.name, str(code.code))
    ]
    sections += [[f"# {rule.name} (rule)", "", rule.doc] for rule in contract.rules if rule.name == name]
    if not sections:
        raise KeyError(name)
    return [line for section in sections for line in (*section, "")][:-1]


def _answered_by(contract: Contract, code: str) -> list[str]:
    lines = [
        f"- {function.name}: {function.conditions[function.errors.index(code)]}"
        for function in contract.imports.values()
        if code in function.errors
    ]
    return ["", *lines] if lines else []
