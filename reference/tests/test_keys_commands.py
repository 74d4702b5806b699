"""`realm keys`: what it prints, what it keeps, and what it never does."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from realm_reference.commands import keys
from realm_reference.server.access.auth import Authenticator
from realm_reference.tenants import keyfile
from realm_reference.tenants.keys import generate, load_keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def realm_keys(path: Path, command: str, *arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(keys, [command, "--api-keys", str(path), *arguments])
    assert result.exit_code == code, result.output
    return result


def made(path: Path, tenant: str, *arguments: str) -> tuple[str, str]:
    """The key and its id."""
    result = realm_keys(path, "generate", "--tenant", tenant, *arguments)
    match = re.search(r"known as (\w+)\.", result.stderr)
    assert match
    return result.stdout.strip(), match[1]


def listed(path: Path, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(realm_keys(path, "list", "--json", *arguments).stdout)
    return found


def test_a_key_is_shown_once_and_nowhere_kept(path: Path) -> None:
    key, id = made(path, "alice", "--name", "laptop")
    assert re.fullmatch(r"realm_[A-Za-z0-9]{32}", key)
    assert key.startswith(id)
    assert len(id) < len(key) - 20
    assert key not in path.read_text("utf-8")
    assert key not in realm_keys(path, "list").output
    assert path.stat().st_mode & 0o077 == 0
    [entry] = listed(path)
    assert (entry["id"], entry["tenant_id"], entry["name"], entry["enabled"]) == (id, "alice", "laptop", True)
    caller = Authenticator(load_keys(path)).caller(f"Bearer {key}")
    assert (caller.tenant, caller.key_id) == ("alice", id)


def test_keys_are_never_the_same() -> None:
    assert len({generate("alice", "", "")[0] for _ in range(1000)}) == 1000


def test_disable_enable_revoke_choose_by_id_tenant_or_name(path: Path) -> None:
    _, first = made(path, "alice", "--name", "ci")
    _, second = made(path, "alice", "--name", "laptop")
    _, third = made(path, "bob", "--name", "ci", "--prefix", "acme")
    assert third.startswith("acme_")

    def enabled() -> set[str]:
        return {entry["id"] for entry in listed(path) if entry["enabled"]}

    assert realm_keys(path, "disable", first).stdout == f"disabled {first} of alice\n"
    assert enabled() == {second, third}
    realm_keys(path, "disable", "--tenant", "alice")
    assert enabled() == {third}
    realm_keys(path, "enable", "--tenant", "alice", "--name", "ci")
    assert enabled() == {first, third}
    realm_keys(path, "revoke", "--name", "ci")
    assert [entry["id"] for entry in listed(path)] == [second]
    assert listed(path, "--tenant", "bob") == []


def test_keys_that_are_not_there_change_nothing(path: Path) -> None:
    _, id = made(path, "alice")
    before = path.read_text("utf-8")
    assert "has no key realm_x" in realm_keys(path, "revoke", id, "realm_x", code=2).output
    assert "say which keys" in realm_keys(path, "revoke", code=2).output
    assert path.read_text("utf-8") == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tenant", "al"], "a tenant is 3 to 64"),
        (["--tenant", "a" * 65], "a tenant is 3 to 64"),
        (["--tenant", "alice", "--prefix", "a_b"], "a prefix is 1 to 16"),
        (["--tenant", "alice", "--name", "a\nb"], "control character"),
    ],
)
def test_what_cannot_be_made(path: Path, arguments: list[str], says: str) -> None:
    assert says in realm_keys(path, "generate", *arguments, code=2).output
    assert not path.exists()


def test_keys_written_by_hand_work_and_are_taken_over_as_digests(path: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps([{"key": "realm_alice_0123456789", "tenant_id": "alice", "last_used": None}]))
    made(path, "bob")
    for _ in range(2):  # a second time adds nothing
        realm_keys(path, "import", str(old))
    assert [entry["tenant_id"] for entry in listed(path)] == ["bob", "alice"]
    assert "realm_alice_0123456789" not in path.read_text("utf-8")
    assert Authenticator(load_keys(path)).caller("Bearer realm_alice_0123456789").tenant == "alice"
    # A file by hand is made one of digests by its first change.
    made(old, "carol")
    assert "realm_alice_0123456789" not in old.read_text("utf-8")
    assert len(load_keys(old)) == 2


def test_a_broken_file_is_left_alone(path: Path) -> None:
    path.write_text("[{")
    assert "not valid JSON" in realm_keys(path, "generate", "--tenant", "alice", code=2).output
    assert path.read_text() == "[{"


def test_changes_at_the_same_time_all_count(path: Path) -> None:
    def add() -> None:
        for _ in range(10):
            _, kept = generate("alice", "", "")
            keyfile.change(path, lambda all_keys, kept=kept: (*all_keys, kept), create=True)  # type: ignore[misc]

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(load_keys(path)) == 40
    assert sorted(file.name for file in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]
