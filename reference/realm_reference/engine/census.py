"""Which sessions hold a KV cache now, and what these caches hold: for whoever watches the engine."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from realm_reference.model.transformer import KVCache


@dataclass(frozen=True)
class CacheUse:
    """All open KV caches together: how many, the tokens in them, the bytes that they take."""

    caches: int
    tokens: int
    bytes: int


class Census:
    """The open caches. Sessions come and go on many threads, and are counted while the loop fills them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._caches: set[KVCache] = set()

    @property
    def count(self) -> int:
        """Open caches."""
        return len(self._caches)

    def enter(self, cache: KVCache) -> None:
        """A session has begun."""
        with self._lock:
            self._caches.add(cache)

    def leave(self, cache: KVCache) -> None:
        """A session has given its cache back."""
        with self._lock:
            self._caches.discard(cache)

    def use(self) -> CacheUse:
        """What they hold now."""
        with self._lock:
            caches = list(self._caches)
        return CacheUse(
            len(caches), sum(cache.length for cache in caches), sum(cache.nbytes for cache in caches)
        )
