"""The page for operators says what is: its settings, metrics and commands are those of the program."""

from __future__ import annotations

import re
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import aiohttp
import click
import pytest
from prometheus_client.parser import text_string_to_metric_families
from realm_reference import commands
from realm_reference.deploy.deployment import Deployment, load
from realm_reference.deploy.targets import RENDERERS

PAGE = (Path(__file__).parents[2] / "docs/operate.md").read_text("utf-8")


def block(kind: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [text for marked, text in found if marked == kind]


@pytest.fixture
def example(tmp_path: Path) -> Deployment:
    (text,) = block("toml")
    for name in ("keys.json", "tenants.toml", "chat.env"):
        (tmp_path / name).write_text("", "utf-8")
    (tmp_path / "chat.toml").write_text(text, "utf-8")
    return load(tmp_path / "chat.toml")


@pytest.mark.parametrize("target", RENDERERS)
def test_the_example_can_be_deployed(example: Deployment, target: str) -> None:
    assert RENDERERS[target](example)


def test_every_setting_is_there() -> None:
    for entry in fields(Deployment):
        name = entry.name.replace("_", "-")
        assert name == "folder" or re.search(rf"^\[?`?{name}\]?( =|\s)", PAGE, re.MULTILINE), name


async def test_every_metric_is_there(start_server: Callable[..., Awaitable[Any]]) -> None:
    server = await start_server()
    await server.stream(max_tokens=2)
    async with aiohttp.ClientSession(server.url) as client:
        text = await (await client.get("/metrics")).text()
    described = set(re.findall(r"`(realm_[a-z_]+)[`{]", PAGE))
    there = set()
    for family in text_string_to_metric_families(text):
        there.add(f"{family.name}_total" if family.type == "counter" else family.name)
    assert described == there


def test_every_command_is_one() -> None:
    lines = [line.partition("#")[0] for part in block("") for line in part.splitlines() if "realm" in line]
    for line in lines:
        words = shlex.split(line.rpartition("|")[2])
        assert words.pop(0) == "realm"
        command: click.Command = getattr(commands, words.pop(0))
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        command.make_context(command.name, words)
    for flag in re.findall(r"`(--[a-z-]+)", PAGE):
        known = {opt for option in commands.serve.params for opt in option.opts}
        assert flag in known | {"--dry-run", "--json"}, flag
