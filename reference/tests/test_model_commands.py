"""`realm models` and `realm info` say what there is, and fail with one line and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from realm_reference.model_commands import info, models


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REALM_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("arguments", [[], ["list"]])
def test_lists_known_and_own_models(empty_cache: Path, tiny_gguf: Path, arguments: list[str]) -> None:
    (empty_cache / "models").mkdir()
    (empty_cache / "models" / "mine.gguf").write_bytes(tiny_gguf.read_bytes())
    (empty_cache / "models" / "broken.gguf").write_bytes(b"no model")
    result = CliRunner().invoke(models, arguments)
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.output.splitlines() if line}
    assert "93.8 MiB" in lines["smollm2-135m"]
    assert "Apache-2.0" in lines["smollm2-135m"]
    assert "run: realm models fetch smollm2-135m" in lines["smollm2-135m"]
    assert "Gemma Terms of Use" in lines["gemma3-270m"]
    assert "The Gemma Terms of Use (gemma3-270m): https://ai.google.dev/gemma/terms" in result.output
    assert "Apache-2.0" in lines["mine.gguf"]
    assert "unreadable" in lines["broken.gguf"]


def test_fetching_prints_the_path(smollm2_path: Path) -> None:
    result = CliRunner().invoke(models, ["fetch", "smollm2-135m"])
    assert (result.exit_code, result.output) == (0, f"{smollm2_path}\n")


def test_info_of_the_real_model(smollm2_path: Path) -> None:
    result = CliRunner().invoke(info, [str(smollm2_path)])
    assert result.exit_code == 0
    for fact in (
        "134.5 M parameters",
        "Q4_1",
        "8192 tokens",
        "9 query, 3 key/value",
        "49152 tokens",
        "<|im_end|>",
        "NumPy, float32",
    ):
        assert fact in result.output


def test_info_names_the_precision_that_is_asked_for(smollm2_path: Path) -> None:
    pytest.importorskip("numba")
    asked = ["--compute", "jit", "--precision", "int8", "--threads", "2"]
    result = CliRunner().invoke(info, [str(smollm2_path), *asked])
    assert result.output.splitlines()[-1].endswith("compiled, int8, 2 threads")


@pytest.mark.parametrize(
    ("command", "arguments", "line"),
    [
        (
            models,
            ["fetch", "nothing"],
            "Error: no model is known as 'nothing'; known: gemma3-270m, smollm2-135m",
        ),
        (
            info,
            ["smollm2-135m"],
            "Error: smollm2-135m is not in the cache; run: realm models fetch smollm2-135m",
        ),
        (
            info,
            ["absent.gguf"],
            "Error: absent.gguf: no such model file, and no known model (known: gemma3-270m, smollm2-135m)",
        ),
    ],
)
def test_failures_are_one_line_and_exit_code_2(
    empty_cache: Path, command: object, arguments: list[str], line: str
) -> None:
    result = CliRunner().invoke(command, arguments)  # type: ignore[arg-type]
    assert (result.exit_code, result.stderr) == (2, f"{line}\n")


def test_info_of_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(10))
    result = CliRunner().invoke(info, [str(tmp_path / "broken.gguf")])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
