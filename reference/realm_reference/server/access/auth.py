"""Who sends a request: the check of an Authorization header against the known keys."""

from __future__ import annotations

from collections.abc import Iterable

from realm_reference.server.errors import unauthorized
from realm_reference.tenants import ANONYMOUS, Caller
from realm_reference.tenants.keys import ApiKey, digest_of


class Authenticator:
    """Knows the keys; with none given, everybody is the anonymous tenant."""

    def __init__(self, keys: Iterable[ApiKey] | None) -> None:
        self._keys: dict[str, ApiKey] | None = None
        if keys is not None:
            self.use(keys)

    def use(self, keys: Iterable[ApiKey]) -> None:
        """Know these keys from now on; thread-safe."""
        self._keys = {key.digest: key for key in keys}

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
        return self.caller_of_key(key.strip())

    def caller_of_key(self, key: str) -> Caller:
        """Who has `key`; ApiError 401 for one that is unknown or disabled."""
        if self._keys is None:
            return ANONYMOUS
        known = self._keys.get(digest_of(key))
        if known is None:
            raise unauthorized("The API key is not valid.")
        if not known.enabled:
            raise unauthorized("The API key is disabled.")
        return known.caller
