"""The `realm` command: assembled by entry points, quick, and with exit codes that CI understands."""

from __future__ import annotations

import errno
import subprocess
import sys
from importlib.metadata import EntryPoint, version

import click
import pytest
from click.testing import CliRunner
from realm_harness import cli

HEAVY = ("locust", "wasmtime", "numpy", "tokenizers", "matplotlib", "realm_reference", "realm_loadtests")


def _realm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "realm_harness", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def without_locust(monkeypatch: pytest.MonkeyPatch) -> None:
    """An install that lacks the extra "load"."""
    real = cli.find_spec
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "locust" else real(name))


def test_help_lists_every_command_with_a_summary() -> None:
    shown = _realm("--help")
    assert shown.returncode == 0
    names = {line.split()[0] for line in shown.stdout.partition("Commands:")[2].splitlines() if line.strip()}
    assert names >= {"conform", "score", "prove", "serve", "models", "info", "run", "load"}
    assert names == set(cli.SUMMARIES)


def test_help_imports_no_command() -> None:
    code = (
        "import sys\nfrom realm_harness.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'imported: {found}' if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(cli.SUMMARIES))
def test_every_command_has_its_own_help(name: str) -> None:
    shown = CliRunner().invoke(cli.realm, [name, "--help"])
    assert shown.exit_code == 0
    assert f"realm {name}" in shown.output


def test_version() -> None:
    assert _realm("--version").stdout.split()[-1] == version("realm-harness")


@pytest.mark.usefixtures("without_locust")
def test_a_missing_extra_is_listed_with_its_remedy() -> None:
    shown = CliRunner().invoke(cli.realm, ["--help"], terminal_width=200)
    [line] = [line for line in shown.output.splitlines() if line.split()[:1] == ["load"]]
    assert "(needs: pip install 'realm-harness[load]')" in line


@pytest.mark.usefixtures("without_locust")
@pytest.mark.parametrize("arguments", [["load"], ["load", "http://x", "--users", "3"], ["load", "--help"]])
def test_a_missing_extra_says_so_when_run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "Error: 'realm load' needs: pip install 'realm-harness[load]'\n"


@pytest.mark.parametrize("arguments", [["no-such-command"], ["--no-such-option"], ["prove", "--users", "0"]])
def test_wrong_usage_is_two(arguments: list[str]) -> None:
    done = _realm(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")


def test_what_was_perhaps_meant_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["serv"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("Error: No such command 'serv'. Did you mean 'serve'?\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["conform", "http://127.0.0.1:1", "--timeout", "nan"], "nan is not a finite number"),
        (["conform", "http://127.0.0.1:1", "--timeout", "inf"], "inf is not a finite number"),
        (["score", "--guest", "--host"], "--guest and --host are two modes"),
        (["score", "--host", "--all"], "--host and --all are two modes"),
    ],
)
def test_arguments_that_make_no_sense(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


@pytest.fixture
def command_that(monkeypatch: pytest.MonkeyPatch) -> object:
    """Adds a command `stub` that raises a given exception or exits with a given code."""

    def add(outcome: BaseException | int) -> None:
        @click.command()
        @click.pass_context
        def stub(context: click.Context) -> None:
            if isinstance(outcome, int):
                context.exit(outcome)
            raise outcome

        monkeypatch.setattr(EntryPoint, "load", lambda entry: stub)
        entry = EntryPoint("stub", "elsewhere:stub", cli.GROUP)
        monkeypatch.setattr(cli, "_found_commands", lambda: {"stub": entry})

    return add


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        (0, 0, ""),
        (1, 1, ""),
        (click.ClickException("no server there"), 2, "Error: no server there\n"),
        (click.UsageError("which one?"), 2, "Error: which one?\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            2,
            "Error: No space left on device, perhaps where the output goes; make room, or write elsewhere\n",
        ),
        (RuntimeError("a slip"), 2, "RuntimeError: a slip\n"),
    ],
)
def test_exit_codes(
    command_that: object,
    capsys: pytest.CaptureFixture[str],
    outcome: BaseException | int,
    code: int,
    said: str,
) -> None:
    command_that(outcome)  # type: ignore[operator]
    with pytest.raises(SystemExit) as ended:
        cli.main(["stub"])
    assert ended.value.code == code
    assert capsys.readouterr().err.endswith(said)


def test_a_command_of_another_distribution_is_listed_by_its_own_help(
    command_that: object, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that(0)  # type: ignore[operator]
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "stub" in capsys.readouterr().out


def test_a_closed_pipe_is_quiet() -> None:
    code = f"{sys.executable} -m realm_harness --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    assert "BrokenPipeError" not in done.stderr
