"""API keys: a static file of them, and the check of an Authorization header."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from realm_reference.server.errors import unauthorized
from realm_reference.tenants import ANONYMOUS, Caller
from realm_reference.tenants.caller import TENANT_ID

_FIELDS: Final = frozenset({"key", "tenant_id", "name", "enabled", "rate_limit", "created_at", "last_used"})


class KeyFileError(Exception):
    """The key file cannot be used; the message is one line and holds no key."""


@dataclass(frozen=True)
class ApiKey:
    """A key as it is kept in memory: its digest, never itself."""

    digest: bytes
    caller: Caller


class Authenticator:
    """Knows the enabled keys; with none given, everybody is the anonymous tenant."""

    def __init__(self, keys: tuple[ApiKey, ...] | None) -> None:
        self._keys = keys

    @property
    def required(self) -> bool:
        """Whether a key is asked for."""
        return self._keys is not None

    def caller(self, authorization: str | None) -> Caller:
        """Who sends an Authorization header; ApiError 401 without a good Bearer key."""
        if self._keys is None:
            return ANONYMOUS
        if authorization is None:
            raise unauthorized("No API key: send 'Authorization: Bearer <key>'.")
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise unauthorized("The Authorization header must be 'Bearer <key>'.")
        digest = _digest(key.strip())
        # Every key is compared, in constant time: the time taken tells nothing about how near a guess is.
        matches = [known.caller for known in self._keys if hmac.compare_digest(known.digest, digest)]
        if not matches:
            raise unauthorized("The API key is not valid.")
        return matches[0]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def load_keys(path: Path) -> tuple[ApiKey, ...]:
    """Read a JSON list of ``{"key", "tenant_id", "name"?, "enabled"?, ...}``; KeyFileError says what is
    wrong.
    """
    try:
        entries = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise KeyFileError(f"cannot read the key file: {error.strerror}") from None
    except ValueError:
        raise KeyFileError("the key file is not valid JSON") from None
    if not isinstance(entries, list):
        raise KeyFileError("the key file must hold a JSON list of keys")
    keys = [_entry(index, entry) for index, entry in enumerate(entries)]
    return tuple(key for key in keys if key is not None)


def _entry(index: int, entry: Any) -> ApiKey | None:
    where = f"entry {index} of the key file"
    if not isinstance(entry, dict) or not entry.keys() <= _FIELDS:
        raise KeyFileError(f"{where} must be an object with only the fields {', '.join(sorted(_FIELDS))}")
    key, tenant, enabled = entry.get("key"), entry.get("tenant_id"), entry.get("enabled", True)
    if not isinstance(key, str) or len(key) < 8:
        raise KeyFileError(f"{where} needs a 'key' of at least 8 characters")
    if not isinstance(tenant, str) or not TENANT_ID.fullmatch(tenant):
        raise KeyFileError(f"{where} needs a 'tenant_id' of 3 to 64 letters, digits, '-' or '_'")
    if not isinstance(enabled, bool):
        raise KeyFileError(f"{where} has an 'enabled' that is not a boolean")
    if entry.get("rate_limit") is not None:
        raise KeyFileError(f"{where} has a 'rate_limit', which this server does not enforce yet")
    return ApiKey(_digest(key), Caller(tenant, f"file-{index}")) if enabled else None
