"""`realm keys`: make, list, disable, enable, revoke and import API keys. Servers notice within a second."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from realm_reference.command_options import CannotStart
from realm_reference.tenants import keyfile
from realm_reference.tenants.keys import DEFAULT_PREFIX, ApiKey, KeyFileError, generate, load_keys

F = TypeVar("F", bound=Callable[..., Any])

key_file = click.option(
    "--api-keys",
    "--file",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    envvar="REALM_SERVE_API_KEYS",
    show_envvar=True,
    help="The file of keys that `realm serve --api-keys` reads.",
)


def _selection(command: F) -> F:
    for option in (
        click.option("--name", help="Only keys of this name."),
        click.option("--tenant", help="Only keys of this tenant."),
        click.argument("ids", nargs=-1, metavar="[ID]..."),
    ):
        command = option(command)
    return command


@click.group()
def keys() -> None:
    """Make and manage API keys. A file holds digests of them, so it lets nobody in."""


@keys.command("generate")
@key_file
@click.option("--tenant", required=True, help="Whose key it is: 3 to 64 letters, digits, '-' or '_'.")
@click.option("--name", default="", help="What it is for.")
@click.option("--prefix", default=DEFAULT_PREFIX, show_default=True, help="How the key begins.")
def generate_key(path: Path, tenant: str, name: str, prefix: str) -> None:
    """Make a key and print it, this once; the file is made if it is not there."""
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        key, kept = generate(tenant, name, created, prefix)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _change(path, lambda all_keys: (*all_keys, kept), create=True)
    try:
        click.echo(key)
    except OSError as error:
        # Nobody has seen it, so nobody may keep it.
        _change(path, lambda all_keys: tuple(other for other in all_keys if other.id != kept.id))
        raise CannotStart(
            f"the key cannot be written ({error.strerror}), so {path} does not have it"
        ) from None
    click.echo(f"This is the only time that the key is shown. It is known as {kept.id}.", err=True)


@keys.command("list")
@key_file
@click.option("--tenant", help="Only keys of this tenant.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def list_keys(path: Path, tenant: str | None, as_json: bool) -> None:
    """List the keys: by what they are known, whose they are, whether they are enabled."""
    try:
        found = [key for key in load_keys(path) if tenant in (None, key.tenant_id)]
    except KeyFileError as error:
        raise CannotStart(str(error)) from None
    if as_json:
        shown = [{name: value for name, value in asdict(key).items() if name != "digest"} for key in found]
        click.echo(json.dumps(shown, indent=1, ensure_ascii=False))
        return
    rows = [("ID", "TENANT", "STATE", "CREATED", "NAME")]
    for key in found:
        state = "enabled" if key.enabled else "disabled"
        rows.append((key.id, key.tenant_id, state, key.created_at or "-", key.name))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[4]]).rstrip())


@keys.command("disable")
@key_file
@_selection
def disable(path: Path, **chosen: Any) -> None:
    """Refuse keys until they are enabled again."""
    _each(path, chosen, "disabled", lambda key: replace(key, enabled=False))


@keys.command("enable")
@key_file
@_selection
def enable(path: Path, **chosen: Any) -> None:
    """Accept disabled keys again."""
    _each(path, chosen, "enabled", lambda key: replace(key, enabled=True))


@keys.command("revoke")
@key_file
@_selection
def revoke(path: Path, **chosen: Any) -> None:
    """Remove keys for ever. What they were used for stays in the ledger."""
    _each(path, chosen, "revoked", lambda key: None)


@keys.command("import")
@key_file
@click.argument("source", type=click.Path(path_type=Path))
def import_keys(path: Path, source: Path) -> None:
    """Take over the keys of SOURCE, a JSON list with the keys themselves, as digests."""
    try:
        found = load_keys(source)
    except KeyFileError as error:
        raise CannotStart(str(error)) from None

    def added(all_keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        known = {key.digest for key in all_keys}
        names = {key.id for key in all_keys}
        fresh = [key for key in found if key.digest not in known]
        if clash := next((key.id for key in fresh if key.id in names), None):
            raise CannotStart(f"{path} has another key with the id {clash}; give it another 'id'")
        return (*all_keys, *fresh)

    _change(path, added, create=True)
    click.echo(f"{len(found)} keys of {source} are in {path}; the keys themselves are only in {source}")


def _each(path: Path, chosen: dict[str, Any], done: str, how: Callable[[ApiKey], ApiKey | None]) -> None:
    ids, tenant, name = set(chosen["ids"]), chosen["tenant"], chosen["name"]
    if not ids and tenant is None and name is None:
        raise click.UsageError("say which keys: an ID (realm keys list), --tenant or --name")
    hit: list[ApiKey] = []

    def wanted(key: ApiKey) -> bool:
        return (not ids or key.id in ids) and tenant in (None, key.tenant_id) and name in (None, key.name)

    def changed(all_keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        hit.extend(key for key in all_keys if wanted(key))
        missing = ids - {key.id for key in hit}
        if missing or not hit:
            which = ", ".join(sorted(missing)) or "like that"
            raise CannotStart(f"{path} has no key {which}; see: realm keys list --api-keys {path}")
        after = (how(key) if key in hit else key for key in all_keys)
        return tuple(key for key in after if key is not None)

    _change(path, changed)
    for key in hit:
        click.echo(f"{done} {key.id} of {key.tenant_id}")


def _change(
    path: Path, how: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]], *, create: bool = False
) -> None:
    try:
        keyfile.change(path, how, create=create)
    except KeyFileError as error:
        raise CannotStart(str(error)) from None
