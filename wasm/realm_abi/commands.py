"""`realm abi`: the contract between guest and host, shown, generated, and held against a module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from realm_abi.contract import load_contract
from realm_abi.describe import named_lines, overview_lines
from realm_abi.generate import c_header
from realm_abi.interface import LONGEST_MESSAGE, ModuleRejected, printable
from realm_abi.page import reference_page

if TYPE_CHECKING:
    from realm_abi.checking import Report

BROKEN = 1
OUTPUT = click.Path(dir_okay=False, writable=True, path_type=Path)


class BadInput(click.ClickException):
    """Nothing that can be looked at: one line with the remedy, exit code 2."""

    exit_code = 2


@click.group()
def abi() -> None:
    """The contract between guest and host: show it, check a module against it, generate from it."""


@abi.command()
@click.argument("name", required=False)
def show(name: str | None) -> None:
    """Print the contract, or all about one NAME: a function, a struct, an error, a rule."""
    contract = load_contract()
    if name is None:
        click.echo("\n".join(overview_lines(contract)))
        return
    try:
        click.echo("\n".join(named_lines(contract, name)))
    except KeyError:
        raise BadInput(f"the contract has no {name!r}; `realm abi show` lists its names") from None


@abi.command()
@click.argument("module", type=click.Path(path_type=Path))
def check(module: Path) -> None:
    """Say which version MODULE speaks, what it imports and exports, and everything that is wrong with it.

    Exit codes: 0 a host can load it; 1 it breaks the contract; 2 it is no wasm module that can be looked at.
    """
    try:
        from realm_abi.checking import check_module
    except ModuleNotFoundError as error:
        raise BadInput(f"{error}; this needs: pip install 'realm-harness[guest]'") from None
    try:
        report = check_module(module)
    except ModuleRejected as error:
        named = str(error) if str(module) in str(error) else f"{module}: {error}"
        raise BadInput(named) from None
    click.echo("\n".join(_report_lines(module, report)))
    if report.problems:
        sys.exit(BROKEN)


def _report_lines(module: Path, report: Report) -> list[str]:
    spoken = f"ABI v{report.version}" if report.version else "no version of the ABI"
    lines = [f"{module}: {report.size} bytes, speaks {spoken}"]
    lines += [f"  imports {item.module}.{item.name} {item.signature or item.kind}" for item in report.imports]
    lines += [f"  exports {name} {item.signature or item.kind}" for name, item in report.exports.items()]
    lines += [f"  remark: {remark}" for remark in report.remarks]
    lines += [f"  WRONG: {problem}" for problem in report.problems]
    lines = [printable(line, LONGEST_MESSAGE) for line in lines]  # names come from the module
    count = len(report.problems)
    lines.append(f"{count} problem{'s' * (count != 1)}" if count else "ok: a host can load it")
    return lines


@abi.command()
@click.option("-o", "--output", type=OUTPUT, help="Write it to a file instead.")
def header(output: Path | None) -> None:
    """Print the C header of the guest's side."""
    _give(c_header(load_contract()), output)


@abi.command()
@click.option("-o", "--output", type=OUTPUT, help="Write it to a file instead.")
def docs(output: Path | None) -> None:
    """Print the reference page: all that one needs to write a guest."""
    _give(reference_page(load_contract()), output)


def _give(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{output} cannot be written: {error.strerror}; choose another file") from None
