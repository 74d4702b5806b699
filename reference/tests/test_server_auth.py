"""API keys: the file, the header, nothing in between that lets a stranger in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from realm_reference.server.access.auth import Authenticator
from realm_reference.server.errors import ApiError
from realm_reference.tenants import ANONYMOUS
from realm_reference.tenants.keys import KeyFileError, digest_of, load_keys

KEYS = [
    {"key": "realm_alice_0123456789", "tenant_id": "alice", "name": "laptop", "created_at": "2026-01-01"},
    {"key": "realm_bob_0123456789", "tenant_id": "bob", "enabled": False},
]


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def authenticator(tmp_path: Path) -> Authenticator:
    return Authenticator(load_keys(write(tmp_path / "keys.json", KEYS)))


def test_without_keys_everybody_is_the_anonymous_tenant() -> None:
    assert Authenticator(None).caller(None) == ANONYMOUS
    assert Authenticator(None).caller("Bearer whatever") == ANONYMOUS


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_good_key_is_its_tenant(authenticator: Authenticator, scheme: str) -> None:
    assert authenticator.caller(f"{scheme} realm_alice_0123456789").tenant == "alice"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "realm_alice_0123456789",
        "Basic realm_alice_0123456789",
        "Token realm_alice_0123456789",
        "Bearer realm_alice_012345678",
        "Bearer realm_alice_01234567890",
        "Bearer realm_bob_0123456789",
        "Bearer \udcff",
    ],
)
def test_everything_else_is_a_401(authenticator: Authenticator, header: str | None) -> None:
    with pytest.raises(ApiError) as caught:
        authenticator.caller(header)
    assert caught.value.status == 401
    assert caught.value.code == "invalid_api_key"
    assert "WWW-Authenticate" in caught.value.headers
    assert "realm_" not in caught.value.message


def test_a_digest_is_as_good_as_its_key(tmp_path: Path) -> None:
    entry = {"id": "realm_alice", "digest": digest_of("realm_alice_0123456789"), "tenant_id": "alice"}
    caller = Authenticator(load_keys(write(tmp_path / "keys.json", [entry]))).caller(
        "Bearer realm_alice_0123456789"
    )
    assert (caller.tenant, caller.key_id) == ("alice", "realm_alice")


def test_a_disabled_key_is_told_so(authenticator: Authenticator) -> None:
    with pytest.raises(ApiError, match="disabled"):
        authenticator.caller("Bearer realm_bob_0123456789")


def test_an_empty_list_lets_nobody_in(tmp_path: Path) -> None:
    with pytest.raises(ApiError):
        Authenticator(load_keys(write(tmp_path / "keys.json", []))).caller("Bearer realm_alice_0123456789")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "{}",
        [5],
        [{"key": "short", "tenant_id": "alice"}],
        [{"tenant_id": "alice"}],
        [{"key": "realm_alice_0123456789"}],
        [{"key": "realm_alice_0123456789", "tenant_id": "a b"}],
        [{"key": "realm_alice_0123456789", "tenant_id": "alice", "admin": True}],
        [{"key": "realm_alice_0123456789", "tenant_id": "alice", "enabled": "yes"}],
        [{"key": "realm_alice_0123456789", "tenant_id": "alice", "rate_limit": 5}],
        [{"key": "realm_alice_0123456789", "tenant_id": "alice", "name": 5}],
        [{"key": "realm_alice_0123456789", "tenant_id": "alice", "digest": "0" * 64}],
        [{"digest": "realm_alice_0123456789", "tenant_id": "alice"}],
        [{"key": "realm_alice_0123456789", "tenant_id": t} for t in ("alice", "bob")],
        [{"digest": str(i) * 64, "id": "realm_a", "tenant_id": "alice"} for i in (1, 2)],
    ],
)
def test_a_bad_key_file_is_one_line_without_keys(tmp_path: Path, content: Any) -> None:
    with pytest.raises(KeyFileError) as caught:
        load_keys(write(tmp_path / "keys.json", content))
    assert "\n" not in str(caught.value)
    assert "realm_" not in str(caught.value)


def test_a_missing_key_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        load_keys(tmp_path / "none.json")
