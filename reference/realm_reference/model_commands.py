"""`realm models` and `realm info`: what models there are, and what is in one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from realm_reference.command_options import chosen_compute, compute_options

if TYPE_CHECKING:
    from realm_reference.model.config import LlamaConfig
    from realm_reference.model.gguf import GGUFFile

# The model modules are imported inside the commands: `realm --help` should not wait for the tokenizers
# library.


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List the known models, or fetch one into the cache."""
    if context.invoked_subcommand is None:
        context.invoke(list_models)


@models.command("list")
def list_models() -> None:
    """List the known models and the files in the cache, with sizes and licences."""
    from realm_reference.model.store import KNOWN_MODELS, cache_folder, other_files

    rows = [("NAME", "SIZE", "LICENCE", "STATE")]
    for model in KNOWN_MODELS.values():
        state = str(model.path) if model.is_cached else f"not fetched; run: realm models fetch {model.name}"
        rows.append((model.name, _mebibytes(model.size), model.licence, state))
    rows += [
        (path.name, _mebibytes(path.stat().st_size), _licence(path), str(path)) for path in other_files()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        click.echo(
            "  ".join([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] + [row[3]])
        )
    for model in KNOWN_MODELS.values():
        if model.terms is not None:
            click.echo(f"\nThe {model.licence} ({model.name}): {model.terms}")
    click.echo(f"\nAny other GGUF file of the Llama family runs by its path. Cache: {cache_folder()}")


@models.command("fetch")
@click.argument("name")
def fetch_model(name: str) -> None:
    """Fetch the known model NAME into the cache, unless it is there, and print its path."""
    from realm_reference.model.errors import ModelError
    from realm_reference.model.fetch import fetch

    try:
        path = fetch(name, say=lambda line: click.echo(line, err=True))
    except ModelError as error:
        _fail(error)
    click.echo(path)


@click.command()
@click.argument("model")
@compute_options
def info(model: str, **compute: Any) -> None:
    """Print what the file of MODEL (a known name or a path) says about itself, and what would compute it."""
    chosen = chosen_compute(compute)
    from realm_reference.model.errors import ModelError
    from realm_reference.model.gguf import open_gguf
    from realm_reference.model.store import locate

    try:
        rows = [*_describe(open_gguf(locate(model))), ("computes", str(chosen))]
    except ModelError as error:
        _fail(error)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name.ljust(width)}  {value}")


def _describe(file: GGUFFile) -> list[tuple[str, str]]:
    """The lines of `realm info`; raises ModelFileError for a file that the reference cannot run."""
    from realm_reference.model.config import LlamaConfig
    from realm_reference.model.tokenizer import Tokenizer

    config, tokenizer = LlamaConfig.from_gguf(file), Tokenizer(file)
    encodings: Counter[str] = Counter()
    for tensor in file.tensors.values():
        encodings[tensor.kind.name] += tensor.n_bytes
    names = [tokenizer.vocabulary.texts[i] for i in tokenizer.eos_ids]
    kind = "byte-level BPE" if tokenizer.vocabulary.byte_level else "SentencePiece BPE"
    parameters = sum(file.count(name) for name in file.tensors)
    return [
        ("file", f"{file.path} ({_mebibytes(file.path.stat().st_size)})"),
        ("name", str(file.metadata.get("general.name", "unknown"))),
        ("licence", str(file.metadata.get("general.license", "unknown"))),
        ("architecture", f"{config.architecture}, {parameters / 1e6:.1f} M parameters"),
        ("encoding", ", ".join(f"{name} {_mebibytes(size)}" for name, size in encodings.most_common())),
        ("context", f"{config.context_length} tokens"),
        (
            "layers",
            f"{config.n_layers}, hidden {config.hidden_size}, feed-forward {config.intermediate_size}",
        ),
        ("heads", f"{config.n_heads} query, {config.n_kv_heads} key/value, {config.head_dim} numbers each"),
        ("rotation", _rotation(config)),
        ("tokenizer", f"{kind}, {tokenizer.vocab_size} tokens"),
        ("end of text", ", ".join(names) or "none"),
        ("chat template", _chat_template(file, tokenizer.vocabulary.texts)),
    ]


def _chat_template(file: GGUFFile, texts: Collection[str]) -> str:
    """Where the form of conversations comes from."""
    from realm_reference.model.published_formats import published_format

    template = file.metadata.get("tokenizer.chat_template")
    if template is not None:
        return f"{len(str(template))} characters"
    published = published_format(str(file.metadata["general.architecture"]), texts)
    return "none" if published is None else f"none in the file; as {published.source} describes it"


def _rotation(config: LlamaConfig) -> str:
    """The rotary bases and the windows of the layers."""
    rope = config.rope
    method = "linear" if rope.yarn is None else "YaRN"
    lines = [f"base {rope.theta:g}" + (f", {method} factor {rope.factor:g}" if rope.factor != 1 else "")]
    windowed = [layer for layer in config.layers if layer.window]
    if windowed:
        first = windowed[0]
        lines.append(f"{len(windowed)} layers see {first.window} positions, base {first.rope.theta:g}")
    return "; ".join(lines)


def _licence(path: Path) -> str:
    from realm_reference.model.errors import ModelFileError
    from realm_reference.model.gguf import open_gguf

    try:
        return str(open_gguf(path).metadata.get("general.license", "unknown"))
    except ModelFileError:
        return "unreadable"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _fail(error: Exception) -> NoReturn:
    """One line with the remedy, and the exit code for what the environment lacks."""
    click.echo(f"Error: {error}", err=True)
    raise SystemExit(2)
