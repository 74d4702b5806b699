"""docs/tenants.md says what there is: its limits load, its commands and options exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from realm_reference import commands
from realm_reference.tenants.policy import Policy, load_policies

PAGE = (Path(__file__).parents[2] / "docs/tenants.md").read_text("utf-8")
LINES = re.findall(r"^realm .*$", PAGE, re.MULTILINE)


def test_its_limits_are_all_limits_and_load(tmp_path: Path) -> None:
    [text] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "tenants.toml"
    path.write_text(text, encoding="utf-8")
    policies = load_policies(path)
    assert policies.guests == {"acme": tmp_path / "guests/acme.wasm"}
    assert all(value is not None for value in vars(policies.of("acme")).values())
    assert policies.of("acme").concurrency == 16
    assert set(vars(policies.defaults)) == set(Policy.__dataclass_fields__)


@pytest.mark.parametrize("line", LINES)
def test_its_commands_exist(line: str) -> None:
    words = shlex.split(line.partition("#")[0])[1:]
    command: click.Command = getattr(commands, words.pop(0))
    if isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in known] == []


def test_it_has_commands() -> None:
    assert len(LINES) > 8
