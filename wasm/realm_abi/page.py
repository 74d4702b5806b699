"""The reference page of the ABI, docs/abi.md: prose from a template, everything else from the contract."""

from __future__ import annotations

from importlib import resources

import jinja2

from realm_abi.contract import Contract
from realm_abi.describe import code_lines, function_lines, struct_lines, wat_import

EXAMPLES = {1: "greedy_v1.wat", 2: "greedy_v2.wat"}


def example(version: int) -> str:
    """The text of the minimal guest of a version, in WAT."""
    return resources.files("realm_abi").joinpath("examples", EXAMPLES[version]).read_text("utf-8")


def reference_page(contract: Contract) -> str:
    """The page as Markdown."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = environment.from_string(resources.files("realm_abi").joinpath("abi.md.j2").read_text("utf-8"))
    return template.render(
        contract=contract,
        errors="\n".join(code_lines(contract.errors)),
        finish_reasons="\n".join(code_lines(contract.finish_reasons)),
        wat_import=lambda function: wat_import(contract, function),
        imported=lambda function: "\n".join(function_lines(contract, function, is_import=True)),
        exported=lambda function: "\n".join(function_lines(contract, function, is_import=False)),
        struct=lambda name: "\n".join(struct_lines(contract.structs[name])),
        example=lambda version: example(version).rstrip("\n"),
    )
