"""The `realm` command: sub-commands from the entry points of the group `realm.commands`, loaded when needed.

A command is imported only to be run or to show its own help. `realm --help` imports none of them, so that it
is quick, and an install without locust or wasmtime still lists what these would add.
"""

from __future__ import annotations

import difflib
import errno
import sys
import traceback
from functools import cache
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import find_spec
from typing import NoReturn

import click

GROUP = "realm.commands"
USAGE_OR_ENVIRONMENT = 2
INTERRUPTED = 130
# A disk that is full or takes nothing, wherever one writes to it, is the environment and no defect.
_NO_PLACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})

# One line each for `realm --help`; a command's own help says the rest. Commands of other distributions are
# loaded for theirs.
SUMMARIES = {
    "abi": "Show the guest contract, or check a module.",
    "api-key": "The same as keys.",
    "bench": "Measure what the parts cost on this machine.",
    "calibrate": "Measure the load generator's own error on this machine.",
    "compare": "Compare two load tests, with a verdict for a pipeline.",
    "conform": "Hold a server to the chat contract, over the wire.",
    "deploy": "Deploy servers here, or write the manifests for a platform.",
    "info": "Show what is in a model file.",
    "keys": "Make, list, disable, enable and revoke API keys.",
    "load": "Load-test a server with streaming users.",
    "logs": "Show the logs of a local deployment as one.",
    "models": "List the known models, or fetch one.",
    "pipeline": "List, check and run pipelines of steps.",
    "prove": "Run everything against a server and write one report.",
    "run": "Generate from a prompt, without a server.",
    "score": "Show that the cases catch planted defects.",
    "serve": "Serve a model over HTTP.",
    "status": "Show whether deployed servers are ready, and what they run.",
    "usage": "Sum up what tenants have used, from a ledger.",
}

# What each package needs beyond the base install: its extra, and the modules by which one sees that it is
# there.
EXTRAS = {
    "realm_reference": ("reference", ("wasmtime", "gguf", "tokenizers", "platformdirs", "prometheus_client")),
    "realm_loadtests": ("load", ("locust", "hdrh", "matplotlib")),
}


@cache
def _found_commands() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def missing_extra(entry: EntryPoint) -> str | None:
    """The extra whose modules a command needs and this install lacks, or None. It imports none of them."""
    extra, modules = EXTRAS.get(entry.module.partition(".")[0], ("", ()))
    return extra if any(find_spec(module) is None for module in modules) else None


def remedy(extra: str) -> str:
    """How to get an extra."""
    return f"needs: pip install 'realm-harness[{extra}]'"


class RealmGroup(click.Group):
    """A group whose commands are found by entry points and loaded late."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all installed commands."""
        return sorted(_found_commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command; one whose extra is not installed becomes a command that says so."""
        entry = _found_commands().get(cmd_name)
        if entry is None:
            return None
        extra = missing_extra(entry)
        if extra:
            return _unavailable(cmd_name, extra)
        command = entry.load()
        if not isinstance(command, click.Command):
            raise click.ClickException(f"the entry point {cmd_name} = {entry.value} is no click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the command that was perhaps meant."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and (close := difflib.get_close_matches(args[0], known, 1)):
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{close[0]}'?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by `SUMMARIES`, without importing them."""
        rows = [(name, self._summary(ctx, entry)) for name, entry in sorted(_found_commands().items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _summary(self, ctx: click.Context, entry: EntryPoint) -> str:
        extra = missing_extra(entry)
        text = SUMMARIES.get(entry.name)
        if text is None and not extra:
            command = self.get_command(ctx, entry.name)
            text = command.get_short_help_str(limit=80) if command else ""
        return f"{text or ''} ({remedy(extra)})".strip() if extra else text or ""


def _unavailable(name: str, extra: str) -> click.Command:
    """A command that takes any arguments and only says what is missing."""

    def refuse() -> NoReturn:
        raise click.ClickException(f"'realm {name}' {remedy(extra)}")

    return click.Command(
        name,
        callback=refuse,
        help=f"Not installed; {remedy(extra)}",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


@click.group(cls=RealmGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("realm-harness"), "--version", prog_name="realm")
def realm() -> None:
    """Conformance and load harness for LLM inference servers, with a reference server.

    Exit codes of all commands: 0 all well; 1 the tested server broke its contract; 2 wrong usage, or
    something is not there.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit. An expected error is one line on stderr and exit code 2."""
    try:
        result = realm.main(arguments, prog_name="realm", standalone_mode=False)
    except click.ClickException as error:
        # click's own default for most is 1, which here would accuse the server under test.
        error.show()
        sys.exit(USAGE_OR_ENVIRONMENT)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            _defect()
        where = f" {error.filename}" if error.filename else ", perhaps where the output goes"
        click.echo(f"Error: {error.strerror}{where}; make room, or write elsewhere", err=True)
        sys.exit(USAGE_OR_ENVIRONMENT)
    except Exception:
        _defect()
    sys.exit(result if isinstance(result, int) else 0)


def _defect() -> NoReturn:
    """Say that it is ours. Within an `except`."""
    # Python would exit with 1, which here means that the server under test is at fault.
    click.echo("A defect of realm-harness, not of what it tests; please report it:", err=True)
    traceback.print_exc()
    sys.exit(USAGE_OR_ENVIRONMENT)
