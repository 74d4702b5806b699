"""`realm pipeline`: list, explain, check and run pipelines from YAML or JSON files."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from realm_reference.command_options import (
    DEFAULT_MODEL,
    CannotStart,
    check_drafts,
    check_gpu,
    chosen_compute,
    draft_options,
    model_options,
)
from realm_reference.serve_adapters import adapter_option, load_all, read_adapters

if TYPE_CHECKING:
    from realm_reference.pipelines import Pipeline, Result

FOLDER = click.option(
    "--pipelines",
    "folder",
    type=click.Path(path_type=Path),
    envvar="REALM_PIPELINES",
    default=Path("pipelines"),
    show_default=True,
    help="Folder of the pipelines that are called by their names.",
)


@click.group()
def pipeline() -> None:
    """Sequential steps over models and templates, from YAML or JSON."""


@pipeline.command("list")
@FOLDER
def list_pipelines(folder: Path) -> None:
    """List the pipelines of a folder. Exit code 1 if one of them is not valid."""
    from realm_reference.pipelines import PipelineError, read_pipeline
    from realm_reference.pipelines.library import pipeline_files

    rows, broken = [("NAME", "STEPS", "INPUTS", "FILE")], 0
    try:
        files = pipeline_files(folder)
    except PipelineError as error:
        _refuse(error)
    for path in files:
        try:
            found = read_pipeline(path)
        except PipelineError as error:
            rows.append(("(not valid)", "-", "-", str(error.problems[0])))
            broken += 1
        else:
            steps = " > ".join(step.name for step in found.steps)
            rows.append((found.name, steps, ", ".join(found.inputs), str(path)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[3]]))
    sys.exit(1 if broken else 0)


@pipeline.command()
@click.argument("name")
@FOLDER
def info(name: str, folder: Path) -> None:
    """Show the steps of the pipeline NAME: a file, or a name in the folder."""
    found = _find(name, folder)
    click.echo(f"{found.name}: {found.description}" if found.description else found.name)
    click.echo(f"inputs: {', '.join(found.inputs)}")
    for number, step in enumerate(found.steps, 1):
        marks = [mark for mark, on in (("optional", step.optional), ("no chat", not step.chat)) if on]
        click.echo(f"\n{number}. {step.name}" + (f" ({', '.join(marks)})" if marks else ""))
        adapter = f", adapter {step.adapter}" if step.adapter else ""
        model = step.model or "(the loaded one)"
        click.echo(f"   {step.input_field} -> {step.output_field}, model {model}{adapter}")
        click.echo(f"   {step.sampling}".replace("Sampling", "sampling"))
        for line in step.template.source.rstrip().splitlines():
            click.echo(f"   | {line}")


@pipeline.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--model", help="Also refuse steps that want another model than this.")
def validate(files: tuple[Path, ...], model: str | None) -> None:
    """Check FILES and name every fault as FILE:LINE:COLUMN.

    Exit code 0: all are right. 1: there is a fault. 2: a file is not there.
    """
    from realm_reference.pipelines import PipelineError, Problem, read_pipeline
    from realm_reference.pipelines.library import wrong_models

    faults = 0
    for path in files:
        try:
            problems = [Problem(str(path), 1, 1, said) for said in wrong_models(read_pipeline(path), model)]
        except PipelineError as error:
            problems = list(error.problems)
        faults += len(problems)
        for line in map(str, problems) if problems else [f"{path}: ok"]:
            click.echo(line)
    sys.exit(1 if faults else 0)


@pipeline.command()
@click.argument("name")
@FOLDER
@click.option(
    "--input",
    "given",
    multiple=True,
    metavar="TEXT|NAME=TEXT",
    help="The pipeline's input; NAME=TEXT, repeated, for one of several.",
)
@click.option("--url", help="Generate on the server at this URL and not in this process.")
@click.option("--api-key", envvar="REALM_API_KEY", help="Key of that server (or REALM_API_KEY).")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result: fields, steps, usage.")
@model_options
@draft_options
@adapter_option
@click.pass_context
def run(context: click.Context, /, name: str, folder: Path, **options: Any) -> None:
    """Run the pipeline NAME (a file, or a name in the folder) and print the last step's text as it comes."""
    found = _find(name, folder)
    source = context.get_parameter_source("model")
    named = options["model"] if source is not click.core.ParameterSource.DEFAULT else None
    inputs = _fields(found, options["given"])
    check_drafts(options)
    emit = None if options["as_json"] else _print_piece
    run_it = _remote if options["url"] else _local
    result = run_it(found, inputs, options, named, emit)
    if options["as_json"]:
        told = {"text": result.text, "fields": result.fields, "steps": [step.json() for step in result.steps]}
        click.echo(json.dumps(told, ensure_ascii=False, indent=1))
        return
    click.echo()
    for step in result.steps:
        usage = step.usage
        counted = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens" if usage else "no tokens"
        failed = f", failed: {step.error}" if step.error else ""
        click.echo(f"{step.name}: {counted} in {step.seconds:.2f} s{failed}", err=True)


def _local(found: Pipeline, inputs: Any, options: dict[str, Any], named: str | None, emit: Any) -> Result:
    check_gpu(options["gpu"])
    compute = chosen_compute(options)
    from realm_reference import assembly
    from realm_reference.model.errors import ModelError
    from realm_reference.pipeline_backends import LocalModel
    from realm_reference.pipelines import run_pipeline
    from realm_reference.pipelines.library import wrong_models

    wanted = sorted({step.model for step in found.steps if step.model})
    if named is None and len(wanted) > 1:
        raise CannotStart(f"the steps want several models ({', '.join(wanted)}); this process loads one")
    model = named or (wanted[0] if wanted else DEFAULT_MODEL)

    async def generate(orchestrator: Any) -> Result:
        try:
            return await run_pipeline(found, inputs, LocalModel(orchestrator, options["draft_tokens"]), emit)
        finally:
            await orchestrator.close(0)

    try:
        with assembly.orchestrator(
            model, options["wasm"], compute=compute, draft=assembly.Draft.of(options), max_running=1
        ) as (engine, orchestrator):
            load_all(engine, read_adapters(options["adapter"], None, orchestrator.model.config))
            for wrong in wrong_models(found, orchestrator.model.name, engine.adapters.loaded):
                raise CannotStart(wrong)
            return asyncio.run(_told(generate(orchestrator)))
    except (assembly.AssemblyError, ModelError) as error:
        raise CannotStart(str(error)) from None


def _remote(found: Pipeline, inputs: Any, options: dict[str, Any], named: str | None, emit: Any) -> Result:
    import aiohttp

    from realm_reference.pipeline_backends import NoServer, RemoteServer, first_model
    from realm_reference.pipelines import run_pipeline

    url = str(options["url"]).rstrip("/").removesuffix("/v1")
    key = options["api_key"]
    headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def generate() -> Result:
        async with aiohttp.ClientSession(headers=headers) as session:
            model = named or await first_model(session, url)
            return await run_pipeline(found, inputs, RemoteServer(session, url, model), emit)

    try:
        return asyncio.run(_told(generate()))
    except NoServer as error:
        raise CannotStart(str(error)) from None


async def _told(result: Awaitable[Result]) -> Result:
    """The result, or one line that says which step failed."""
    from realm_reference.pipelines import PipelineFailed

    try:
        return await result
    except PipelineFailed as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(1) from None


async def _print_piece(text: str) -> None:
    click.echo(text, nl=False)


def _fields(found: Pipeline, given: tuple[str, ...]) -> dict[str, str]:
    """What --input says: pairs for a pipeline's named inputs, or the text of its only one."""
    from realm_reference.pipelines import BadInput, fields_of

    pairs = [text.partition("=") for text in given]
    if all(name in found.inputs and sign for name, sign, _ in pairs):
        inputs: Any = {name: value for name, _, value in pairs}
    elif len(given) == 1 and len(found.inputs) == 1:
        inputs = given[0]
    else:
        raise CannotStart(f"--input must be NAME=TEXT with one of the names {', '.join(found.inputs)}")
    try:
        return fields_of(found, inputs)
    except BadInput as error:
        raise CannotStart(f"{error}; give it with --input") from None


def _find(name: str, folder: Path) -> Pipeline:
    from realm_reference.pipelines import PipelineError, load_folder, read_pipeline

    try:
        if os.sep in name or Path(name).is_file():
            return read_pipeline(Path(name))
        known = load_folder(folder)
    except PipelineError as error:
        _refuse(error)
    if name not in known:
        raise CannotStart(
            f"'{name}' is no file, and {folder} has: {', '.join(sorted(known)) or 'no pipeline'}"
        )
    return known[name]


def _refuse(error: Exception) -> NoReturn:
    raise CannotStart(str(error)) from None
