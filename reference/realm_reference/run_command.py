"""`realm run`: one generation on the terminal, through the same guest and engine as the server's."""

from __future__ import annotations

import asyncio
import os
import secrets
from typing import Any, NoReturn

import click

from realm_reference.command_options import (
    CannotStart,
    FiniteRange,
    check_drafts,
    check_gpu,
    chosen_compute,
    draft_options,
    model_options,
)
from realm_reference.serve_adapters import adapter_option, load_all, read_adapters


@click.command(context_settings={"auto_envvar_prefix": "REALM_RUN"})
@click.argument("prompt")
@model_options
@draft_options
@adapter_option
@click.option(
    "--max-tokens", type=click.IntRange(1), default=256, show_default=True, help="Tokens to generate at most."
)
@click.option(
    "--temperature",
    type=FiniteRange(0, 2),
    default=0.0,
    show_default=True,
    help="0 takes the likeliest token.",
)
@click.option("--top-p", type=FiniteRange(0, 1), default=1.0, show_default=True, help="Nucleus sampling.")
@click.option(
    "--top-k", type=click.IntRange(0), default=0, show_default=True, help="Keep the k likeliest; 0 is off."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), help="Key of the sampling noise.  [default: random]"
)
@click.option("--system", help="A system message before the prompt.")
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without the chat template.")
def run(**options: Any) -> None:
    """Generate once and print the text as it comes."""
    for name in ("prompt", "system"):
        options[name] = _utf8(name, options[name])
    check_drafts(options)
    check_gpu(options["gpu"])
    compute = chosen_compute(options)
    from realm_reference import assembly
    from realm_reference.model.errors import ModelError

    if len(options["adapter"]) > 1:
        raise click.UsageError("--adapter: one run has one adapter")
    try:
        with assembly.orchestrator(
            options["model"],
            options["wasm"],
            compute=compute,
            draft=assembly.Draft.of(options),
            max_running=1,
        ) as (engine, orchestrator):
            load_all(engine, read_adapters(options["adapter"], None, orchestrator.model.config))
            asyncio.run(_run(orchestrator, options))
    except (assembly.AssemblyError, ModelError) as error:
        raise CannotStart(str(error)) from None


def _utf8(name: str, text: str | None) -> str | None:
    """An argument as text: in a locale that is not UTF-8 Python keeps its bytes as surrogates."""
    try:
        return None if text is None else os.fsencode(text).decode("utf-8")
    except UnicodeError:
        raise click.UsageError(f"the {name} is not UTF-8 text") from None


async def _run(orchestrator: Any, options: dict[str, Any]) -> None:
    from realm_reference.orchestration import Failed, GenerationRequest, Token

    prompt = orchestrator.prepare(_prompt_text(orchestrator.model, options))
    room = orchestrator.model.context_length - prompt.tokens
    if not prompt.tokens:
        _fail("the prompt has no tokens; give some text")
    if room <= 0:
        _fail(f"the prompt has {prompt.tokens} tokens, the context holds {orchestrator.model.context_length}")
    request = GenerationRequest(
        prompt=prompt,
        max_tokens=min(options["max_tokens"], room),
        temperature=options["temperature"],
        top_p=options["top_p"],
        top_k=options["top_k"],
        seed=secrets.randbits(32) if options["seed"] is None else options["seed"],
        adapter=options["adapter"][0][0] if options["adapter"] else "",
        draft_tokens=options["draft_tokens"],
    )
    generation = orchestrator.submit(request)
    try:
        async for event in generation:
            if isinstance(event, Token):
                click.echo(event.text, nl=False)
            elif isinstance(event, Failed):
                _fail(event.message)
        click.echo()
    finally:
        generation.cancel()
        await orchestrator.close(0)


def _prompt_text(model: Any, options: dict[str, Any]) -> str:
    from realm_reference.model.errors import ChatTemplateError

    if options["raw"] or model.chat is None:
        return str(options["prompt"])
    messages = [{"role": "user", "content": options["prompt"]}]
    if options["system"]:
        messages.insert(0, {"role": "system", "content": options["system"]})
    try:
        return str(model.chat.render(messages))
    except ChatTemplateError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    raise click.ClickException(message)
