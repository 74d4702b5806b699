"""The examples are kept from rotting: each command in them is one that the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from realm_loadtests.commands import compare_command, load

EXAMPLES = Path(__file__).parents[1] / "examples"
COMMANDS: dict[str, click.Command] = {"load": load, "compare": compare_command}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


def commands() -> list[list[str]]:
    (compose,) = documents("compose.yaml")
    found = [
        [re.sub(r"\$\{TARGET.*\}", "http://t", word) for word in each["command"]]
        for each in compose["services"].values()
    ]
    for each in documents("kubernetes.yaml"):
        if each["kind"] == "Job":
            found += [container["args"] for container in each["spec"]["template"]["spec"]["containers"]]
    (pipeline,) = documents("pipeline.yml")
    said = [step["run"] for step in pipeline["jobs"]["load"]["steps"] if "run" in step]
    lines = re.findall(r"bin/realm ((?:load|compare) .*)", "\n".join(said))
    return found + [shlex.split(line) for line in lines]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_each_command_is_understood(words: list[str]) -> None:
    """Down to the last option and its value, without being run."""
    command, arguments = COMMANDS[words[0]], words[1:]
    context = command.make_context(words[0], arguments)
    assert isinstance(command, click.Group)
    name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    assert found is not None
    found.make_context(name or "", rest, parent=context)


@pytest.mark.parametrize(
    "manifest", documents("kubernetes.yaml"), ids=lambda each: str(each["metadata"]["name"])
)
def test_each_manifest_is_one_of_kubernetes(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_as_many_workers_come_as_are_waited_for() -> None:
    (compose,) = documents("compose.yaml")
    services = compose["services"]
    waited = services["master"]["command"]
    assert int(waited[waited.index("--workers") + 1]) == services["worker"]["deploy"]["replicas"]
    _, master, worker = documents("kubernetes.yaml")
    (container,) = master["spec"]["template"]["spec"]["containers"]
    waited = container["args"]
    assert int(waited[waited.index("--workers") + 1]) == worker["spec"]["parallelism"]
