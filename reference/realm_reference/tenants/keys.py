"""API keys: made at random, shown once, kept as digests in a JSON file.

A key is a prefix and 32 random letters and digits, 190 bits: nobody can try so many, so one fast SHA-256 is
right for them, and a slow hash or a salt (which protect what people choose and use twice) would only make
each request slower. Keys are looked up by digest: whoever guesses cannot steer the digest of a guess towards
a known one, so the time that a lookup takes tells nothing about any key.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from realm_reference.tenants.caller import TENANT_ID, Caller

DEFAULT_PREFIX: Final = "realm"
_ALPHABET: Final = string.ascii_letters + string.digits
_RANDOM: Final = 32
# Of the 32, what names the key: 155 bits stay unknown.
_NAMING: Final = 6
_PREFIX: Final = re.compile(r"[A-Za-z0-9]{1,16}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f]{0,100}")
_SHORTEST: Final = 8


class KeyFileError(Exception):
    """The key file cannot be used; the message is one line and holds no key."""


@dataclass(frozen=True)
class ApiKey:
    """A key as it is kept: `id` is how it begins, or what else names it; the key itself is nowhere."""

    id: str
    digest: str
    tenant_id: str
    name: str = ""
    enabled: bool = True
    created_at: str = ""

    @property
    def caller(self) -> Caller:
        """Who comes with this key."""
        return Caller(self.tenant_id, self.id)


def digest_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "backslashreplace")).hexdigest()


def generate(tenant: str, name: str, created_at: str, prefix: str = DEFAULT_PREFIX) -> tuple[str, ApiKey]:
    """A new key, to be shown once, and what is kept of it. ValueError for a bad tenant, name or prefix."""
    if not TENANT_ID.fullmatch(tenant):
        raise ValueError("a tenant is 3 to 64 letters, digits, '-' or '_'")
    if not _PREFIX.fullmatch(prefix):
        raise ValueError("a prefix is 1 to 16 letters and digits")
    if not _TEXT.fullmatch(name):
        raise ValueError("a name has at most 100 characters, none of them a control character")
    drawn = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    key = f"{prefix}_{drawn}"
    return key, ApiKey(f"{prefix}_{drawn[:_NAMING]}", digest_of(key), tenant, name, True, created_at)


def load_keys(path: Path) -> tuple[ApiKey, ...]:
    """Read a JSON list of keys; KeyFileError says what is wrong and where.

    An entry has `tenant_id` and either `id` and `digest` (as `realm keys` writes) or, written by hand, the
    `key` itself; `name`, `enabled` and `created_at` are optional.
    """
    try:
        entries = _parsed(path)
    except FileNotFoundError as error:
        remedy = f"make it with: realm keys generate --api-keys {path} --tenant NAME"
        raise KeyFileError(f"cannot read the key file {path}: {error.strerror}; {remedy}") from None
    except OSError as error:
        raise KeyFileError(f"cannot read the key file {path}: {error.strerror}") from None
    except RecursionError:
        raise KeyFileError(f"the key file {path} is nested too deeply") from None
    if not isinstance(entries, list):
        raise KeyFileError(f"the key file {path} must hold a JSON list of keys")
    keys = tuple(
        _entry(f"entry {index} of the key file {path}", index, entry) for index, entry in enumerate(entries)
    )
    for what in ("id", "digest"):
        values = [getattr(key, what) for key in keys]
        for index, value in enumerate(values):
            if value in values[:index]:
                first = values.index(value)
                raise KeyFileError(
                    f"entries {first} and {index} of the key file {path} have the same key or id"
                )
    return keys


def _parsed(path: Path) -> Any:
    """The JSON of a file. What its errors say of the place holds nothing of the text, which may be keys."""
    if path.is_char_device():  # /dev/zero has no end, and nothing can take the place of a device
        raise KeyFileError(f"the key file {path} is a device; choose a file")
    try:
        # Some editors put a byte order mark before what they save as UTF-8.
        return json.loads(path.read_text("utf-8-sig"), object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise KeyFileError(f"the key file {path} is not valid JSON: {error.msg} at {place}") from None
    except UnicodeDecodeError:
        raise KeyFileError(f"the key file {path} is not valid JSON: it is not UTF-8") from None
    except KeyError as error:
        raise KeyFileError(f"the key file {path} has the field {error} twice in one object") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose fields are there once: of two tenants of a key, neither is the one that was meant."""
    entry: dict[str, Any] = {}
    for name, value in pairs:
        if name in entry:
            raise KeyError(name if name in _FIELDS else "...")
        entry[name] = value
    return entry


def dump_keys(keys: tuple[ApiKey, ...]) -> str:
    """The file's text; digests only."""
    return json.dumps([asdict(key) for key in keys], indent=1, ensure_ascii=False) + "\n"


_STRINGS: Final = ("id", "key", "digest", "name", "created_at")
_FIELDS: Final = frozenset({*_STRINGS, "tenant_id", "enabled", "rate_limit", "last_used"})


def _entry(where: str, index: int, entry: Any) -> ApiKey:
    if not isinstance(entry, dict) or not entry.keys() <= _FIELDS:
        raise KeyFileError(f"{where} must be an object with only the fields {', '.join(sorted(_FIELDS))}")
    for name in _STRINGS:
        if not isinstance(entry.get(name) or "", str):
            raise KeyFileError(f"{where} has a '{name}' that is not a string")
    tenant, enabled = entry.get("tenant_id"), entry.get("enabled", True)
    if not isinstance(tenant, str) or not TENANT_ID.fullmatch(tenant):
        raise KeyFileError(f"{where} needs a 'tenant_id' of 3 to 64 letters, digits, '-' or '_'")
    if not isinstance(enabled, bool):
        raise KeyFileError(f"{where} has an 'enabled' that is not a boolean")
    if entry.get("rate_limit") is not None:
        raise KeyFileError(f"{where} has a 'rate_limit': limits are a tenant's, in the file of --tenants")
    digest = _digest(where, entry)
    id = entry.get("id") or f"{tenant}-{index}"
    return ApiKey(id, digest, tenant, entry.get("name") or "", enabled, entry.get("created_at") or "")


def _digest(where: str, entry: Mapping[str, Any]) -> str:
    key, digest = entry.get("key"), entry.get("digest")
    if (key is None) == (digest is None):
        raise KeyFileError(f"{where} needs either a 'key' or the 'digest' of one")
    if digest is not None:
        if not _DIGEST.fullmatch(digest):
            raise KeyFileError(f"{where} has a 'digest' that is not 64 hexadecimal digits (SHA-256)")
        return str(digest)
    if key is None or len(key) < _SHORTEST:
        raise KeyFileError(f"{where} needs a 'key' of at least {_SHORTEST} characters")
    return digest_of(key)
