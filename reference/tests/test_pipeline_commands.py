"""`realm pipeline`: every sub-command, on the tiny model and on a server of it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from realm_reference.pipeline_commands import pipeline

EXAMPLES = Path(__file__).parents[1] / "examples" / "pipelines"
TWO = """
name: two
steps:
  - {name: say, params: {max_tokens: 4, temperature: 0}}
  - {name: again, template: "{{ input }}!", params: {max_tokens: 6, temperature: 0}}
"""
TOO_LONG = "name: long\nsteps: [{name: say, template: \"{{ 'word ' * 900 }}\"}]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "two.yaml").write_text(TWO)
    shutil.copy(EXAMPLES / "explain.yaml", tmp_path)
    return tmp_path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(pipeline, [str(argument) for argument in arguments])


def test_list_names_steps_inputs_and_files(folder: Path) -> None:
    done = call("list", "--pipelines", folder)
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["NAME", "explain", "two"]
    assert "summarise > explain > simplify" in done.stdout
    (folder / "bad.yaml").write_text("name: [")
    done = call("list", "--pipelines", folder)
    assert done.exit_code == 1
    assert "bad.yaml:1:8: " in done.stdout
    missing = call("list", "--pipelines", folder / "nothing")
    assert missing.exit_code == 2
    assert "cannot be read" in missing.stderr


def test_info_shows_the_steps(folder: Path) -> None:
    for name in ("explain", str(folder / "explain.yaml")):
        done = call("info", name, "--pipelines", folder)
        assert done.exit_code == 0
        assert "3. simplify (optional)" in done.stdout
        assert "| Summarise in one sentence: {{ text }}" in done.stdout
    missing = call("info", "nothing", "--pipelines", folder)
    assert missing.exit_code == 2
    assert "'nothing' is no file" in missing.stderr
    assert "explain, two" in missing.stderr


def test_validate_names_every_fault_with_its_place(folder: Path) -> None:
    bad = folder / "bad.yaml"
    bad.write_text("name: x\nsteps:\n  - name: a\n    modle: b\n    adapter: [c]\n")
    done = call("validate", folder / "two.yaml", bad)
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        f"{folder / 'two.yaml'}: ok",
        f"{bad}:4:5: a step has the unknown key 'modle'; did you mean 'model'?",
        f"{bad}:5:14: 'adapter' must be a string that is not empty",
    ]
    assert call("validate", folder / "two.yaml", "--model", "any").exit_code == 0
    assert call("validate", folder / "two.yaml", folder / "none.yaml").exit_code == 2
    bad.write_text("name: x\nsteps: [{name: a, model: other}]")
    assert "step 'a' wants the model 'other'" in call("validate", bad, "--model", "tiny").stdout


def test_run_here_is_what_the_model_says(folder: Path, tiny_gguf: Path) -> None:
    told = call("run", "two", "--pipelines", folder, "--model", tiny_gguf, "--input", "hello", "--json")
    assert told.exit_code == 0, told.stderr
    result = json.loads(told.stdout)
    assert [(step["name"], step["tokens_generated"]) for step in result["steps"]] == [
        ("say", 4),
        ("again", 6),
    ]
    assert result["fields"] == {"input": "hello", "say": result["fields"]["say"], "again": result["text"]}
    done = call("run", "two", "--pipelines", folder, "--model", tiny_gguf, "--input", "input=hello")
    assert done.stdout == result["text"] + "\n"
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["say", "again"]


def test_run_says_what_is_missing_before_it_loads_anything(folder: Path) -> None:
    for arguments, told in (
        (["two"], "the pipeline needs the string 'input' in its input; give it with --input"),
        (["explain", "--input", "x"], "one of the names text, audience"),
        (["explain", "--input", "text=x"], "the pipeline needs the string 'audience'"),
        (["two", "--input", "x", "--model", "no-such-model"], "no-such-model"),
        (["two", "--input", "x", "--url", "http://127.0.0.1:1"], "no server answers at http://127.0.0.1:1"),
        (["two", "--input", "x", "--url", "nonsense"], "no server answers at nonsense"),
    ):
        done = call("run", *arguments, "--pipelines", folder)
        assert done.exit_code == 2, done.output
        assert told in done.stderr


def test_run_names_the_step_that_failed(folder: Path, tiny_gguf: Path) -> None:
    (folder / "long.yaml").write_text(TOO_LONG)
    done = call("run", "long", "--pipelines", folder, "--model", tiny_gguf, "--input", "x")
    assert done.exit_code == 1
    assert "step 'say': its prompt has" in done.stderr
    (folder / "other.yaml").write_text("name: other\nsteps: [{name: a, model: x}, {name: b, model: y}]")
    done = call("run", folder / "other.yaml", "--input", "x")
    assert done.exit_code == 2
    assert "the steps want several models (x, y)" in done.stderr


async def test_run_on_a_server_is_the_same(
    folder: Path, tiny_gguf: Path, start_server: Callable[..., Awaitable[Any]]
) -> None:
    server = await start_server()
    arguments = ["run", "two", "--pipelines", folder, "--input", "hello", "--json"]
    there = await asyncio.to_thread(call, *arguments, "--url", server.url)
    assert there.exit_code == 0, there.output
    here = await asyncio.to_thread(call, *arguments, "--model", tiny_gguf)
    assert json.loads(there.stdout)["fields"] == json.loads(here.stdout)["fields"]
    (folder / "long.yaml").write_text(TOO_LONG)
    failed = await asyncio.to_thread(
        call, "run", "long", "--pipelines", folder, "--input", "x", "--url", server.url
    )
    assert failed.exit_code == 1
    assert "step 'say': the server answers 400: " in failed.stderr
