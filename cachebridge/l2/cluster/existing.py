"""What the store of a cluster does with a key only if it exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from cachebridge.l2.redis.store import RedisStore


class _Host(Protocol):
    def _at(self, key: str) -> RedisStore: ...


class ExistingKeys:
    """The part of ``ClusterStore`` for keys that exist."""

    def ttl(self: _Host, key: str) -> Coroutine[Any, Any, int]:
        """Return what is left of the TTL."""
        return self._at(key).ttl(key)

    def overwrite(
        self: _Host, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> Coroutine[Any, Any, bool | str]:
        """Set the key if it exists."""
        return self._at(key).overwrite(key, raw, ttl_ms, message)

    def keep(
        self: _Host, key: str, expected: bytes, ttl_ms: int
    ) -> Coroutine[Any, Any, bool]:
        """Give the key a new TTL if it still is ``expected``."""
        return self._at(key).keep(key, expected, ttl_ms)
